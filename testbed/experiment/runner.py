"""Runs a scenario: from its journal to its result, whatever ends it, and always in good order.

Each part is in the journal as soon as it has ended, so that a run that was interrupted, or killed,
goes on where it was; the result is written in one piece. Must not know the order of the parts,
how one is made, nor what the figures come to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from testbed.container import inside
from testbed.experiment.course import Course
from testbed.experiment.described import described
from testbed.experiment.feasible import require_feasible
from testbed.experiment.identity import Header, code_digest, machine_id
from testbed.experiment.pinning import Pins, choose_pins
from testbed.experiment.progress import Progress
from testbed.experiment.record import Record, now
from testbed.experiment.runjournal import RunJournal
from testbed.experiment.surroundings import peculiarities, surroundings
from testbed.experiment.trialplan import Plan, plan_run
from testbed.files import yamlfile
from testbed.measure.cpu import allowed_cpus
from testbed.results import Result
from testbed.results.store import save_result
from testbed.scenario.model import Scenario

DEFAULT_SEED: Final = 1


def run_scenario(
    scenario: Scenario,
    *,
    quick: bool,
    output_dir: str | Path,
    progress: Progress = lambda _: None,
    seed: int | None = None,
    resume: bool = False,
) -> Result:
    """Make all trials of the scenario and write `result.json` into `output_dir`.

    The topology comes up under a name of its own and is gone when this returns or raises. Whatever
    ends it early, Ctrl-C (KeyboardInterrupt) or an error: what was measured so far is written, and
    the exception goes on. A node that dies, and a trial that the tester spoiled, are in the
    result, not raised. With `resume` it goes on with the run whose journal is in `output_dir`:
    takes down what that has left, and makes the trials that it has not.

    :raises InputError: there is a run in `output_dir` already, or, to resume, none or another one.
    :raises Lacking: the kernel or the rights do not suffice; nothing was made.
    :raises TestbedError: the testbed could not be made.
    """
    plan = plan_run(scenario, quick=quick)
    pins, shared = choose_pins(allowed_cpus())
    notes = peculiarities(shared)
    header = _header(scenario, plan, quick=quick, pins=pins, seed=seed)
    journal = RunJournal(output_dir)
    try:
        if resume:
            record = Record.take_up(journal, header, notes=notes)
            record.note(_interruption(record, plan))
        else:
            record = Record.begin(journal, header, notes=notes)
        try:
            require_feasible(scenario, quick=quick)
            Course(scenario, plan, record, quick=quick, pins=pins, progress=progress).run()
        except BaseException as error:
            if record.measured or record.checks:
                save_result(record.result(ended_by=error), output_dir)
                if inside.is_contained():
                    # Another container would be another machine: nobody can go on with it.
                    journal.discard()
            elif not resume:
                journal.discard()
            raise
        result = record.result()
        save_result(result, output_dir)
        journal.discard()
    finally:
        journal.close()
    return result


def _header(scenario: Scenario, plan: Plan, *, quick: bool, pins: Pins, seed: int | None) -> Header:
    return Header(
        started=now(),
        seed=DEFAULT_SEED if seed is None else seed,
        file=_absolute(scenario.source),
        scenario=described(scenario, quick=quick),
        topology=scenario.topology.to_json(),
        environment=surroundings(pins),
        plan=plan.digest,
        code=code_digest(),
        machine_id=machine_id(),
    )


def _absolute(source: str | None) -> str | None:
    """The scenario's file, wherever the run is taken up; None if it came from standard input."""
    return None if source in (None, yamlfile.STDIN) else os.path.abspath(str(source))


def _interruption(record: Record, plan: Plan) -> str:
    """When the run was interrupted, in words, and how many pairs drift may tell apart."""
    made = f"{len(record.trials)} trials"
    if record.searches:
        made += f" and {len(record.searches)} searches"
    torn = plan.torn(record.trials)
    where = "between two pairs"
    if torn:
        where = f"{torn} {'pair has' if torn == 1 else 'pairs have'} trials before and after it"
    return f"interrupted after {made} and taken up again at {now()}, {where}"
