"""The published contract in `proto/`: rendered from the code, compared with what is committed and with what is frozen.

`python -m edgeloop.contracts write|check|freeze`; docs/adr/0004 says why it works this way.
"""
