"""Node agent: the OBU/RSU node protocol over per-packet or batched I/O.

Nothing in this package may import ``testbed``: an agent runs by itself, in whatever
network namespace it was started in.
"""

__version__ = "0.1.0"
