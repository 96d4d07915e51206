"""The command line: what it takes, what it refuses, and with which status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import pytest
from agent_net import RADIO, TAP, Namespace, Net, ping

from agent import __version__
from agent.linux import rights

AGENT = [sys.executable, "-m", "agent.cli"]


def run(
    namespace: Namespace | None,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    command: list[str] | None = None,
    without_rights: bool = False,
) -> subprocess.CompletedProcess[str]:
    """The command's end; it must not stay running."""

    def go() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*(command or AGENT), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **(env or {})},
            preexec_fn=rights.drop_all if without_rights else None,
        )

    if namespace is None:
        return go()
    with namespace.entered():
        return go()


def refused(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["Missing command"]),
        (["fly"], ["No such command", "fly"]),
        (["obu"], ["--bind"]),
        (["obu", "-b", "nope"], ["no interface 'nope'"]),
        (["obu", "-b", "lo"], ["no Ethernet interface"]),
        (["obu", "-b", "x" * 16], ["too long", "at most 15"]),
        (["obu", "-b", RADIO, "-t", "averylongtapname"], ["tap name", "too long"]),
        (["obu", "-b", RADIO, "-t", "a/b"], ["tap name", "a/b"]),
        (["obu", "-b", RADIO, "-t", RADIO], ["tap name", RADIO]),
        (["obu", "-b", RADIO, "-t", "lo"], ["interface 'lo'", "already"]),
        (["obu", "-b", RADIO, "-i", "10.0.0.300"], ["10.0.0.300", "expected an address"]),
        (["obu", "-b", RADIO, "-i", "ff02::1"], ["ff02::1"]),
        (["obu", "-b", RADIO, "-i", "10.3.0.1"], ["10.3.0.1", "already in use on lo"]),
        (["obu", "-b", RADIO, "-m", "12"], ["mtu", "12", "from 68"]),
        (["obu", "-b", RADIO, "-m", "much"], ["--mtu", "much"]),
        (["obu", "-b", RADIO, "-p", "5"], ["-p"]),
        (["obu", "-b", RADIO, "--hello-history", "0"], ["hello history", "0"]),
        (["obu", "-b", RADIO, "--batch", "257"], ["batch", "257", "256"]),
        (["obu", "-b", RADIO, "--engine", "warp"], ["warp", "mmsg"]),
        (["obu", "-b", RADIO, "--handler", "warp"], ["warp", "batched"]),
        (["obu", "-b", RADIO, "--tap-mac", "01:00:00:00:00:00"], ["mac"]),
        (["obu", "-b", RADIO, "--user", "nosuchuser"], ["nosuchuser"]),
        (["obu", "-b", RADIO, "--control", "/nowhere/a"], ["/nowhere/a", "No such file"]),
        (["obu", "-b", RADIO, "--stats-file", "/nowhere/a"], ["/nowhere/a", "No such file"]),
        (["rsu", "-b", RADIO], ["--hello-periodicity"]),
        (["rsu", "-b", RADIO, "-p", "0"], ["hello periodicity", "0"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_ends_with_one_clear_line_and_status_2(
    net: Net, arguments: list[str], words: list[str]
) -> None:
    namespace, _ = net.pair()
    namespace.ip("address", "add", "10.3.0.1/24", "dev", "lo")
    refused(run(namespace, *arguments), 2, *words)
    assert TAP not in namespace.run("ip", "-br", "link")


def test_two_agents_cannot_have_one_tap_or_one_address(net: Net) -> None:
    namespace, _ = net.pair()
    net.agent(namespace, "obu", "-i", "10.3.0.1")
    refused(run(namespace, "obu", "-b", RADIO, "-t", TAP), 2, TAP, "already")
    other = run(namespace, "obu", "-b", RADIO, "-t", "tap1", "-i", "10.3.0.1/16")
    refused(other, 2, "10.3.0.1", "already in use on tap0")


def test_without_rights_it_says_which_and_ends_with_status_4(net: Net) -> None:
    namespace, _ = net.pair()
    done = run(namespace, "obu", "-b", RADIO, without_rights=True)
    refused(done, 4, "CAP_NET_RAW", "root")


def test_without_the_tun_device_it_says_so_and_ends_with_status_4(net: Net) -> None:
    namespace, _ = net.pair()
    hide = 'mount -t tmpfs none /dev/net && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", hide, "sh", *AGENT]
    done = run(namespace, "obu", "-b", RADIO, command=command)
    refused(done, 4, "/dev/net/tun", "No such file", "modprobe tun")


def test_engines_are_listed_as_table_and_as_json() -> None:
    table = run(None, "engines")
    assert table.returncode == 0
    assert ["per-packet", "tap", "yes"] in [line.split() for line in table.stdout.splitlines()]
    assert "mmsg        tap   no: a TAP descriptor is no socket" in table.stdout
    found = json.loads(run(None, "engines", "--format", "json").stdout)
    assert found["mmsg"]["wire"] == {"available": True, "why_not": None, "note": None}
    assert found["mmsg"]["tap"]["available"] is False
    assert found["writev"]["wire"]["available"] is True
    assert "never chosen by auto" in found["writev"]["wire"]["note"]
    assert "never chosen by auto" in table.stdout


def test_version() -> None:
    assert run(None, "--version").stdout == f"testbed-agent {__version__}\n"


def test_every_option_can_come_from_the_environment(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = net.pair()
    monkeypatch.setenv("TESTBED_AGENT_IP", "10.3.0.1/30 fd00:3::1")
    monkeypatch.setenv("TESTBED_AGENT_HELLO_PERIODICITY", "200")
    monkeypatch.setenv("TESTBED_AGENT_NAME", "by-environment")
    rsu = net.agent(one, "rsu")
    monkeypatch.setenv("TESTBED_AGENT_IP", "10.3.0.2/30")
    obu = net.agent(other, "obu")
    obu.wait_event("upstream")
    assert rsu.stats()["name"] == "by-environment"
    assert ping(other, "10.3.0.1") == 3
    addresses = one.run("ip", "-br", "address", "show", "dev", TAP)
    assert "10.3.0.1/30" in addresses
    assert "fd00:3::1/64" in addresses


def test_a_bare_address_gets_a_usual_prefix_and_the_tap_its_mtu_and_mac(net: Net) -> None:
    namespace, _ = net.pair()
    net.agent(
        namespace,
        *("obu", "-i", "10.3.0.1", "-i", "fd00:3::1", "-m", "1300"),
        *("--tap-mac", "06:00:00:00:00:01", "--quiet-tap"),
    )
    with_mac = namespace.run("ip", "link", "show", "dev", TAP)
    assert "mtu 1300" in with_mac
    assert "06:00:00:00:00:01" in with_mac
    addresses = namespace.run("ip", "-br", "address", "show", "dev", TAP).split()
    assert addresses[2:] == ["10.3.0.1/24", "fd00:3::1/64"]  # and none that is link-local


def test_an_engine_that_serves_the_other_side_only_gives_way_with_a_reason(net: Net) -> None:
    namespace, _ = net.pair()
    agent = net.agent(namespace, "obu", "--engine", "mmsg", "--tap-engine", "mmsg")
    engines = agent.stats()["engines"]
    assert engines["wire"] == {"requested": "mmsg", "used": "mmsg", "why": "asked for"}
    assert engines["tap"]["requested"] == "mmsg"
    assert engines["tap"]["used"] == "uring"
    assert "no socket" in engines["tap"]["why"]


def test_auto_gives_way_where_the_fastest_engine_does_not_fit_the_interface(net: Net) -> None:
    node, _ = net.pair()
    used = net.agent(node, "obu").stats()["engines"]["wire"]
    assert used == {"requested": "auto", "used": "xsk-tx", "why": "the fastest that works here"}
    other, _ = net.pair()
    other.run("tc", *["qdisc", "add", "dev", "radio0", "root", "pfifo", "limit", "100"])
    used = net.agent(other, "obu").stats()["engines"]["wire"]
    assert used["used"] == "mmsg"
    assert "xsk-tx cannot: not on radio0: AF_XDP would pass by its queue, pfifo" in used["why"]


def test_an_engine_asked_for_by_name_does_not_give_way(net: Net) -> None:
    node, _ = net.pair()
    node.run("tc", *["qdisc", "add", "dev", "radio0", "root", "pfifo", "limit", "100"])
    agent = net.agent(node, "obu", "--engine", "xsk-tx", ready=False)
    assert agent.process.wait(20) == 4
    assert "wire engine xsk-tx cannot be opened on radio0" in agent.log.read_text()
