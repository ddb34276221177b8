"""How a cluster ends: closed, with its driver killed, or with its Ray lost; nothing is left in any case."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from joulelaw.cluster.ranks.scratch import remove_all_abandoned
from tests.cluster.driving import environment, gone, wait_for

pytestmark = pytest.mark.xdist_group("ray")

STUDY = """
import sys, time
from pathlib import Path
from joulelaw.cluster.cluster import Cluster

cluster = Cluster.connect("local")
model = cluster.nodes[0].devices[0].model
gang = cluster.acquire(model, 1)
gang.start("tests.cluster.entries:sleep", {}, Path(sys.argv[1]))
while not any(event["kind"] == "ready" for event in gang.poll()):
    time.sleep(0.01)
print(cluster._session.scratch.path, flush=True)
sys.stdin.readline()
cluster.close()
"""


LOST = """
import sys, time
from pathlib import Path
import psutil
from joulelaw.cluster.cluster import Cluster
from joulelaw.cluster.failures import RayLostError

try:
    with Cluster.connect("local") as cluster:
        folder = cluster._session.scratch.path
        processes = psutil.Process().children(recursive=True)
        (raylet,) = [process for process in processes if process.name() == "raylet"]
        gang = cluster.acquire(cluster.nodes[0].devices[0].model, 1)
        gang.start("tests.cluster.entries:sleep", {}, Path(sys.argv[1]))
        raylet.kill()
        for _ in range(100):
            cluster.drain_power()
            time.sleep(0.1)
except RayLostError as error:
    print(error, flush=True)
print(folder.exists(), flush=True)
with Cluster.connect("local") as another:
    print(len(another.wait_ready()), flush=True)
"""


def test_a_killed_raylet_is_told_as_what_it_is_and_does_not_stand_in_the_way_of_another(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOST, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.stdout.splitlines()[-3:] == [
        "the local Ray died: its raylet is gone; run the same command again to go on",
        "False",
        "1",
    ], done.stderr
    assert done.returncode == 0


# Ray's own agents of a killed Ray try to report its death for a minute before they leave.
LINGERING = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@pytest.mark.parametrize("end", ["close", "kill"])
def test_no_process_outlives_the_driver(tmp_path: Path, end: str) -> None:
    """Neither Ray, nor the fork server, nor the rank: after close(), and after SIGKILL in the middle of a trial."""
    command = [sys.executable, "-c", STUDY, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        folder = Path(driver.stdout.readline().strip())
        processes = {p.pid: " ".join(p.cmdline()) for p in psutil.Process(driver.pid).children(recursive=True)}
        for expected in ("raylet/raylet", "ray::Launcher", "ray::RankHost", "joulelaw.cluster.ranks.forkserver"):
            assert any(expected in name for name in processes.values())
        if end == "close":
            driver.stdin.write("\n")
            driver.stdin.flush()
        else:
            driver.kill()
    lingering = [pid for pid, name in processes.items() if end == "kill" and name.startswith(LINGERING)]
    wait_for(lambda: all(gone(pid) for pid in processes.keys() - lingering))
    for pid in lingering:  # they would write their logs anew
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(gone(pid) for pid in lingering))
    if end == "kill":
        remove_all_abandoned()  # as the next start does
    assert not folder.exists()
