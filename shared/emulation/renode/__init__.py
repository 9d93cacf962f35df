"""Renode as an emulator: the files that describe a board to it, and its monitor.

Renode is in no package registry: nothing here has met a real one. The files follow its documentation and the names of
its own peripheral models; the client follows what its monitor prints over telnet.
"""
