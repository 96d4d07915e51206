"""`testbed run` and `report`: a measurement, and what it says."""

from __future__ import annotations

COMMANDS = ()
