"""`testbed inspect`, `exec`, `logs` and `ping`: a look into a running testbed."""

from __future__ import annotations

COMMANDS = ()
