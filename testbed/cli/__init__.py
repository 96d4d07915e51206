"""The `testbed` command: parses arguments, calls the part that does the work, prints its answer.

Command modules import what does the work only when they are called: `testbed --help` stays quick,
and one part that cannot be imported does not take the others with it.
"""

from __future__ import annotations

from testbed.cli.main import cli, main

__all__ = ["cli", "main"]
