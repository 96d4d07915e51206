"""Without root every command that needs it says so in one line, and does nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

AS_SOMEBODY = """
import json, os, pkgutil, sys, tempfile
# Loaded first, and once for all: another user may be unable to read the packages.
import agent, testbed
for package in (agent, testbed):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            __import__(module.name)
import encodings.utf_8_sig, rich.console, rich.progress, rich.table, rich.text, scipy.stats
import testbed.cli
told = []
for command in json.loads(sys.argv[1]):
    files = [tempfile.TemporaryFile("w+") for _ in range(2)]
    pid = os.fork()
    if pid == 0:
        for number, file in enumerate(files, start=1):
            os.dup2(file.fileno(), number)
        os.setgroups([])
        os.setgid(54321)
        os.setuid(54321)
        testbed.cli.main(command)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for file in files:
        file.seek(0)
    told.append([status, *(file.read() for file in files)])
print(json.dumps(told))
"""

TOPOLOGY = """\
name: pair
topology:
  nodes: {rsu1: {kind: rsu}, obu1: {kind: obu}}
  links: [[rsu1, obu1]]
"""
SCENARIO = """\
name: small
topology: pair.yaml
measure: {relay: {node: obu1, path: relay}}
traffic: {loads: {medium: 2kpps}}
variants: {a: {baseline: true}, b: {batch: 8}}
repeats: 1
trial: 300ms
"""


def test_it_says_what_to_do_and_ends_with_4(root: None, run_dir: Path, tmp_path: Path) -> None:
    shared = Path(tempfile.gettempdir())
    for directory in (tmp_path, *tmp_path.parents):
        if shared in directory.parents:
            directory.chmod(0o755)
    topology, scenario, output = (tmp_path / name for name in ("pair.yaml", "small.yaml", "out"))
    topology.write_text(TOPOLOGY)
    scenario.write_text(SCENARIO)
    commands = [
        ["up", str(topology)],
        ["run", str(scenario), "--quick", "--output", str(output)],
        ["down"],
        ["down", "pair"],
        ["down", "--all"],
        ["inspect"],
        ["inspect", "--all"],
        ["exec", "obu1", "--", "true"],
        ["logs", "obu1"],
        ["ping"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", AS_SOMEBODY, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    for command, (status, said, complaint) in zip(commands, json.loads(done.stdout), strict=True):
        assert (status, said) == (4, ""), (command, complaint)
        (line,) = complaint.splitlines()
        assert line.startswith("error: "), command
        assert "sudo" in line, command
    assert not output.exists()
