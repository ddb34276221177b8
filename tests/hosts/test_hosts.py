"""The hosts themselves: they share nothing but what is read-only, links can be cut, and nothing stays behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.driving import wait_for
from tests.hosts.hosts import HOME, ROOT, Hosts, reason_to_skip

pytestmark = [
    pytest.mark.xdist_group("hosts"),
    pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "can run"),
]
KNOCK = "import socket, sys; socket.create_connection((sys.argv[1], 9), timeout=1)"


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Hosts(2) as hosts:
        yield hosts


def knock(hosts: Hosts, source: str, target: str) -> str:
    """What is heard at a closed port of another host: a refusal where the way is open, else nothing."""
    address = hosts[target].address
    return hosts.run(source, [sys.executable, "-c", KNOCK, address]).stderr.strip().splitlines()[-1]


def test_a_file_of_one_host_is_on_no_other_and_not_here(hosts: Hosts) -> None:
    for place in ("/tmp/mine", "/dev/shm/mine", f"{HOME}/mine"):
        assert hosts.run("host1", ["touch", place]).returncode == 0
        assert hosts["host1"].path(place).exists()
        assert not hosts["host2"].path(place).exists()
        assert not Path(place).exists()


@pytest.mark.parametrize("place", ["/", str(ROOT), sys.prefix, "/var/tmp"])
def test_what_is_shared_cannot_be_written(hosts: Hosts, place: str) -> None:
    tried = hosts.run("host1", ["touch", f"{place}/mine"])
    assert tried.returncode != 0
    assert "Read-only file system" in tried.stderr


def test_hosts_have_names_clocks_and_processes_of_their_own(hosts: Hosts) -> None:
    code = "import os, socket, time; print(socket.gethostname(), len(os.listdir('/sys/class/net')), time.monotonic())"
    said = [hosts.run(name, [sys.executable, "-c", code]).stdout.split() for name in ("host1", "host2")]
    assert [name for name, _, _ in said] == ["host1", "host2"]
    assert [links for _, links, _ in said] == ["2", "2"], "lo and eth0"
    assert float(said[1][2]) - float(said[0][2]) > 50_000
    pids = hosts.run("host1", ["bash", "-c", "echo /proc/[0-9]*"]).stdout.split()
    assert f"/proc/{os.getpid()}" not in pids


def test_nothing_passes_a_cut_link_until_it_is_mended(hosts: Hosts) -> None:
    assert "refused" in knock(hosts, "host1", "host2")
    hosts.cut("host2")
    assert "timed out" in knock(hosts, "host1", "host2")
    hosts.mend("host2")
    assert "refused" in knock(hosts, "host1", "host2")


def test_hosts_end_with_the_process_that_made_them(tmp_path: Path) -> None:
    """Killed, it cleans up nothing; and the processes of a host have no parent outside that could miss it."""
    code = (
        "import sys, time; from pathlib import Path; from tests.hosts.hosts import Hosts\n"
        "with Hosts(1) as hosts:\n"
        "    hosts.start('host1', ['sleep', sys.argv[1]], log=Path(sys.argv[2]))\n"
        "    print('up', flush=True); time.sleep(600)\n"
    )
    mark = f"1234.{os.getpid()}"

    def marked() -> list[int]:
        return [process.pid for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or [])]

    command = [sys.executable, "-c", code, mark, str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "up\n"
        wait_for(lambda: len(marked()) >= 2)
        maker.send_signal(signal.SIGKILL)
    wait_for(lambda: not marked())
