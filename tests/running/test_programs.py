"""Nodes that are programs: when they are ready and have joined, how they end, whom they run as."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.linux import rights
from testbed.files import yamlfile
from testbed.reach.reach import reach
from testbed.running import lifecycle
from testbed.running.inspect import inspect
from testbed.running.running import Running
from testbed.topology.loader import topology_of
from testbed.topology.model import Topology

pytestmark = pytest.mark.usefixtures("root", "run_dir")

SMALL_NODE = Path(__file__).parents[1] / "traffic" / "small_node.py"
COMMAND = (
    f"command: [{sys.executable}, -S, {SMALL_NODE}, '{{kind}}', --bind, '{{iface}}', --tap-name, "
    "'{tap}', --ip, '{ip}', --mtu, '{mtu}', --hello-periodicity, '{hello_periodicity_ms}']"
)
"""A node that shares no code with the agent."""


def script(text: str) -> str:
    """The command that runs Python text; braces in it are no placeholders."""
    doubled = text.replace("{", "{{").replace("}", "}}")
    return f"command: [{sys.executable}, -S, -c, {json.dumps(doubled)}]"


def topology(name: str, nodes: dict[str, str], *, rsu: str = "") -> Topology:
    """OBUs with these bodies, and an RSU, in one cell."""
    lines = "".join(f"    {node}: {{{body}}}\n" for node, body in nodes.items())
    text = (
        f"name: {name}\ntopology:\n  defaults: {{kind: obu, hello: {{period: 300ms}}}}\n  nodes:\n"
        f"    rsu1: {{kind: rsu, {rsu}}}\n{lines}"
        f"  segments:\n    - [rsu1, {', '.join(nodes)}]\n"
    )
    return topology_of(yamlfile.parse(text, file="f", env={}))


@pytest.fixture
def up() -> Iterator[Callable[..., Running]]:
    """Bring up, for as long as the test runs."""
    with ExitStack() as stack:

        def make(wanted: Topology, **more: object) -> Running:
            stack.callback(lifecycle.down, wanted.name)
            return stack.enter_context(lifecycle.up(wanted, **more))  # type: ignore[arg-type]

        yield make


def why(running: Running) -> dict[str, str]:
    assert running.report is not None
    return {node.node: node.why for node in running.report.not_ready}


def test_programs_and_agents_make_one_network(
    up: Callable[..., Running], testbed_name: str
) -> None:
    nodes = {"ours": "", "theirs": f"{COMMAND}, ready: {{log: ^ready$}}", "third": COMMAND}
    running = up(topology(testbed_name, nodes, rsu=COMMAND))
    assert why(running) == {}
    # The program gives its TAP an IPv4 address alone; both families pass.
    found = reach(running.topology)
    assert found.complete, found.unreached
    shown = {node.name: node for node in inspect(testbed_name).nodes}
    assert {node.state for node in shown.values()} == {"ready"}
    assert {node.why for node in shown.values()} == {None}
    assert shown["ours"].upstream is not None
    assert shown["ours"].stats is not None
    for name in ("theirs", "third", "rsu1"):
        node = shown[name]
        assert (node.upstream, node.engines, node.stats) == (None, None, None)
        assert node.program is not None
        assert node.program[2] == str(SMALL_NODE)
    for name in ("theirs", "third"):
        answered = shown[name].answered
        assert answered is not None
        assert (answered.node, answered.rsu, answered.hops) == ("rsu1", "rsu1", 1)
    assert shown["rsu1"].answered is None
    # Where no heartbeat is sent none is answered: what was seen before is not seen now.
    running.stop("rsu1")
    again = running.restart("theirs")
    assert (again.state, again.answered) == ("ready", None)
    running.restart("rsu1")
    assert running.wait_joined() == ()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (script("import signal; signal.pause()"), "there is no interface tap0"),
        (
            script(
                "import os, fcntl, struct, signal; tap = os.open('/dev/net/tun', os.O_RDWR); "
                "fcntl.ioctl(tap, 0x400454CA, struct.pack('16sH22x', b'tap0', 0x1002)); "
                "signal.pause()"
            ),
            "tap0 is down",
        ),
        (
            script("print('red', flush=True); import signal; signal.pause()"),
            "no line of its log matches 'rea?dy'",
        ),
    ],
)
def test_what_is_not_ready_in_time_has_failed_and_is_stopped(
    up: Callable[..., Running], testbed_name: str, program: str, reason: str
) -> None:
    log = ", log: 'rea?dy'" if "red" in program else ""
    nodes = {"a": f"{program}, ready: {{within: 300ms{log}}}", "b": ""}
    running = up(topology(testbed_name, nodes), wait_s=20)
    assert set(why(running)) == {"a"}
    assert why(running)["a"].startswith(
        f"could not be started: not ready within 0.3 s: {reason}; its log "
    )
    status = running.status()["a"]
    assert (status.state, status.exit_status, status.asked) == ("exited", -signal.SIGTERM, False)
    assert inspect(testbed_name).nodes[1].state == "exited"


def test_what_its_log_said_in_an_earlier_life_does_not_count(
    up: Callable[..., Running], testbed_name: str, tmp_path: Path
) -> None:
    mark = tmp_path / "was-here"
    program = script(
        f"import os, signal; known = os.path.exists('{mark}'); open('{mark}', 'w').close()\n"
        "print('again' if known else 'first', flush=True); signal.pause()"
    )
    # Without a TAP it is never ready: what it lacks tells which of the two was looked for.
    nodes = {"a": f"{program}, ready: {{log: first, within: 300ms}}"}
    running = up(topology(testbed_name, nodes), wait_s=20)
    assert "there is no interface tap0" in why(running)["a"]
    status = running.restart("a")
    assert status.error == "not ready within 0.3 s: no line of its log matches 'first'"


def test_one_that_answers_no_heartbeat_is_named(
    up: Callable[..., Running], testbed_name: str
) -> None:
    deaf = script(
        "import os, fcntl, struct, signal, socket\n"
        "tap = os.open('/dev/net/tun', os.O_RDWR)\n"
        "fcntl.ioctl(tap, 0x400454CA, struct.pack('16sH22x', b'tap0', 0x1002))\n"
        "s = socket.socket(); fcntl.ioctl(s, 0x8914, struct.pack('16sh22x', b'tap0', 1))\n"
        "signal.pause()"
    )
    nodes = {"deaf": deaf, "silent": f"{script('import signal; signal.pause()')}, ready: started"}
    running = up(topology(testbed_name, nodes), wait_s=1.0)
    # Of one that is only started nothing is known, and nothing is claimed.
    assert why(running) == {
        "deaf": "was not seen to answer a heartbeat (it hears rsu1, silent)",
    }
    assert running.status()["silent"].state == "ready"
    shown = {node.name: node for node in inspect(testbed_name).nodes}
    assert (shown["deaf"].state, shown["deaf"].ok) == ("ready", False)
    assert shown["deaf"].why == "was not seen to answer a heartbeat"
    assert (shown["silent"].why, shown["silent"].ok) == (None, True)


def test_it_ends_at_its_own_signal_with_its_environment(
    up: Callable[..., Running], testbed_name: str, run_dir: Path
) -> None:
    program = script(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(9))\n"
        "print(os.environ['WHO'], os.environ['TESTBED_MARK'] != '', flush=True)\n"
        "while True: signal.pause()"
    )
    body = f"{program}, ready: started, stop: SIGUSR1, env: {{WHO: '{{name}} at {{ip}}'}}"
    running = up(topology(testbed_name, {"a": body}))
    log = running.run.node_log("a")
    running.launcher.wait(lambda _: bool(log.read_text()), 5, check=lambda: None)
    assert log.read_text() == "a at 10.77.0.2 True\n"
    status = running.stop("a")
    assert status is not None
    assert (status.exit_status, status.asked) == (9, True)


def test_another_user_has_two_rights_and_can_gain_no_more(
    up: Callable[..., Running], testbed_name: str
) -> None:
    # No directory of ours is open to that user, so it is a program of the system's.
    body = "command: [sleep, '600'], ready: started, user: nobody"
    running = up(topology(testbed_name, {"a": body}))
    pid = running.status()["a"].pid
    running.launcher.wait(lambda _: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", 5)
    found = rights.rights_of(pid)
    wanted = 1 << rights.CAP_NET_ADMIN | 1 << rights.CAP_NET_RAW
    assert found.effective == found.permitted == found.ambient == wanted
    assert found.no_new_privs
    assert set(found.uids) == {65534}
    assert os.stat(running.run.node("a")).st_uid == 65534


def test_a_user_that_is_not_there_is_said(up: Callable[..., Running], testbed_name: str) -> None:
    body = "command: [sleep, '600'], ready: started, user: nobody_at_all"
    running = up(topology(testbed_name, {"a": body}))
    assert why(running)["a"].startswith(
        "could not be started: sleep: there is no user nobody_at_all on this machine"
    )
