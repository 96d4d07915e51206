"""Who a container belongs to, and whether that one still lives."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from testbed.container.owner import Owner


def test_a_label_says_who_it_was() -> None:
    assert Owner.of_label(Owner.this().label()) == Owner.this()
    assert Owner.of_label("nonsense") is None
    assert Owner.of_label("a b c d") is None


def test_this_process_lives() -> None:
    assert Owner.this().life() == "alive"


def test_a_process_that_ended_is_dead() -> None:
    script = "from testbed.container.owner import Owner; print(Owner.this().label())"
    said = subprocess.run(
        (sys.executable, "-c", script), capture_output=True, text=True, check=True
    ).stdout
    owner = Owner.of_label(said)
    assert owner is not None
    assert owner.life() == "dead"


def test_a_process_that_only_has_the_number_of_a_dead_one_is_another() -> None:
    assert replace(Owner.this(), began=1).life() == "dead"


def test_of_another_boot_or_namespace_nothing_is_known() -> None:
    assert replace(Owner.this(), boot="another").life() == "unknown"
    assert replace(Owner.this(), pid_namespace=1).life() == "unknown"


def test_a_zombie_is_dead() -> None:
    with subprocess.Popen(("sh", "-c", "read line"), stdin=subprocess.PIPE) as process:
        script = (
            "from testbed.container.owner import _began; import sys; "
            "print(_began(int(sys.argv[1])))"
        )

        def began() -> str:
            done = subprocess.run(
                (sys.executable, "-c", script, str(process.pid)), capture_output=True, text=True
            )
            return done.stdout.strip()

        assert began().isdigit()
        assert process.stdin is not None
        process.stdin.close()
        # Ended, not waited for.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert began() == "None"
