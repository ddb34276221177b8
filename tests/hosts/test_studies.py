"""A study over several hosts that share no folder: with a group over two, a link that drops, and a host that dies.

The head has no device, as is usual: all that is measured comes over its link. Its folder has every trial exactly once.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.hosts.hosts import reason_to_skip
from tests.hosts.ray_hosts import RayHosts, Study

pytestmark = [
    pytest.mark.xdist_group("hosts"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "can run"),
]
TOKEN = "a-token-for-three-hosts-0123456789"
DROPPED_S = 20.0
# The group over two hosts runs first, after its own single device; a dozen trials of two seconds follow, long enough to
# be cut off in the middle.
SWEEP = """\
schema: 1
name: hosts
seed: 3
defaults: {vocab_size: 1000, hidden_size: 64, sequence_length: 32, micro_batch_size: 1}
grids:
  - {num_layers: [1, 2, 3, 4, 5, 6], micro_batch_size: [1, 2]}
  - {strategy: ddp, gpu_count: 2, node_count: 2, num_layers: 6, micro_batch_size: 2}
window: {warmup_steps: 1, min_steps: 5, min_s: 2.0, max_s: 30, tolerance: 0}
hold_out: {by: case, fraction: 0.0}
metering: {meter: estimate, cpu_w_per_core: 10.0, idle_s: 0}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHosts]:
    with RayHosts([0, 1, 1], tmp_path_factory.mktemp("hosts"), TOKEN) as cluster:
        yield cluster


def check_complete(study: Study) -> None:
    """All trials of the plan, each once, and its readings and steps with it."""
    last = study.end()
    assert last["exit_code"] in (0, 3), study.log.read_text()
    assert last["failed"] == 0, study.log.read_text()
    planned = [trial["trial_id"] for trial in json.loads((study.folder / "plan.json").read_text())["trials"]]
    assert sorted(row["trial_id"] for row in study.rows("trials")) == sorted(planned)
    assert {row["trial_id"] for row in study.rows("steps")} == set(planned)
    assert {row["trial_id"] for row in study.rows("power")} >= set(planned)
    assert TOKEN not in study.log.read_text()


def finished(study: Study) -> int:
    return len(list((study.folder / "trials").glob("*.parquet")))


def check_pair(study: Study) -> None:
    """The group over two hosts: how its ranks spoke, and that both nodes' readings came to the head."""
    pair = next(row for row in study.rows("trials") if row["gpu_count"] == 2)
    assert pair["node_count"] == 2
    assert pair["transport"] == "gloo"
    assert pair["probed_network_bytes_per_s"] > 0
    metered = {row["device_uuid"] for row in study.rows("power") if row["trial_id"] == pair["trial_id"]}
    assert len(metered) == 2
    ranks = Counter(row["rank"] for row in study.rows("steps") if row["trial_id"] == pair["trial_id"])
    assert ranks[0] == ranks[1] > 0


def test_a_study_over_hosts_whose_head_is_cut_off_for_a_while_and_of_which_one_dies(cluster: RayHosts) -> None:
    """Nothing is lost by 20 s of silence; by a host that is cut off and dies, only what ran on it, which runs again."""
    study = cluster.start_study(SWEEP, "rough")
    study.wait_for(lambda: any(row["gpu_count"] == 2 for row in study.rows("trials", ["gpu_count"])))
    cluster.hosts.cut("host1")
    time.sleep(DROPPED_S)
    before = finished(study)
    cluster.hosts.mend("host1")
    study.wait_for(lambda: finished(study) >= before + 2)
    events = study.rows("events")
    assert not [event for event in events if event["kind"] == "node_lost"]
    assert not [event for event in events if event["kind"] == "attempt_ended" and event["cause"]]

    cluster.hosts.cut("host3")
    time.sleep(3)
    cluster.hosts.kill("host3")
    check_complete(study)
    (lost,) = [event for event in study.rows("events") if event["kind"] == "node_lost"]
    failed = [event for event in study.rows("events") if event["kind"] == "attempt_ended" and event["cause"]]
    assert all(event["nodes"] == lost["nodes"] and event["retried"] for event in failed)
    check_pair(study)
