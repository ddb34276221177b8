"""The kernel counts those that it kills for memory: found by either cgroup version, each explains one death."""

from pathlib import Path

import pytest

from joulelaw.cluster.ranks.oom import OomCounter, oom_kills

EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"  # a v2 memory.events
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"  # a v1 memory.oom_control
VMSTAT = "nr_free_pages 1\noom_kill 7\nnuma_hit 3\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({"proc/self/cgroup": "0::/user/job\n", "sys/fs/cgroup/user/job/memory.events": EVENTS}, 2),
        ({"proc/self/cgroup": "0::/elsewhere\n", "sys/fs/cgroup/memory.events": EVENTS}, 2),
        ({"proc/self/cgroup": "4:memory:/a/b\n0::/\n", "sys/fs/cgroup/memory/a/b/memory.oom_control": CONTROL}, 2),
        ({"proc/self/cgroup": "5:cpu,cpuacct:/\n0::/\n", "proc/vmstat": VMSTAT}, 7),
        ({"proc/vmstat": VMSTAT}, 7),
        ({"proc/vmstat": "nr_free_pages 1\n"}, None),
        ({}, None),
    ],
)
def test_the_nearest_counter_is_read(files: dict[str, str], kills: int | None, tmp_path: Path) -> None:
    write(tmp_path, files)
    assert oom_kills(tmp_path) == kills


def test_each_kill_explains_one_death_of_a_rank_that_was_there() -> None:
    kills = [3]
    counter = OomCounter(lambda: kills[0])
    first = counter.now()
    assert not counter.explains(first), "somebody else's SIGKILL"
    kills[0] = 4
    later = counter.now()
    assert not counter.explains(later), "the kill was before this rank's launch"
    assert counter.explains(first)
    assert not counter.explains(first), "one kill, one death"
    kills[0] = 6
    assert counter.explains(later)
    assert counter.explains(first)


def test_without_a_counter_no_death_is_explained() -> None:
    counter = OomCounter(lambda: None)
    assert not counter.explains(counter.now())
