"""The node protocol of OBUs and RSUs, sans-IO.

Bytes and the time go in, bytes come out: nothing below this package opens a socket, reads a
clock, starts a thread or logs. ``docs/protocol.md`` describes the frames and the behaviour.
"""
