"""A place of the lab at run time: its boards in hand, the fence before them, and the work that is done on them.

`agent` decides who may touch a board and ends what may not go on; `rig` is what it asks of a board. `serving` puts an
agent onto the bus.
"""
