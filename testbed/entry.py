"""Where the command `testbed` begins: from here on Ctrl-C ends it as documented.

Must not import what takes time: until the command line is there, with nothing to undo yet, Python
would answer Ctrl-C with a traceback, and what is just being imported might even swallow it.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and hand over; it has handlers of its own, which undo."""
    # nohup and shells without job control ignore signals on purpose.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _stop)
    from testbed import cli

    cli.main()


def _stop(number: int, frame: object) -> NoReturn:
    os.write(2, b"error: stopped\n")
    os._exit(128 + number)
