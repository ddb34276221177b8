"""What a study shows to others while it runs and leaves behind: no open port, and no secret."""

import time
from pathlib import Path

import psutil

from tests.bench.studies import Running

SECRET = "hush-4711"
# `alone` needs none of these; a rank, a message or a saved file might carry them along.
SECRETS = dict.fromkeys(("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR"), SECRET)
PAIR = """\
schema: 1
name: pair
seed: 3
defaults: {vocab_size: 1000, hidden_size: 64, sequence_length: 32, micro_batch_size: 1, num_layers: 1}
grids:
  - {strategy: ddp, gpu_count: 2}
window: {warmup_steps: 2, min_steps: 20, min_s: 2.0, max_s: 30, tolerance: 0}
hold_out: {by: case, fraction: 0.0}
metering: {meter: estimate, cpu_w_per_core: 10.0}
"""


def listeners(pids: list[int]) -> set[str]:
    """The addresses that processes listen at, over any network."""
    found = set()
    for pid in pids:
        try:
            connections = psutil.Process(pid).net_connections("inet")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        found |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    return found


def test_a_study_listens_to_nobody_elsewhere_and_keeps_secrets(tmp_path: Path) -> None:
    """Its driver, fork server and ranks, from the start to the end of a trial on two devices."""
    (tmp_path / "sweep.yaml").write_text(PAIR)
    running = Running("run", "sweep.yaml", "--into", "into", "--alone", cwd=tmp_path, env=SECRETS)
    heard: set[str] = set()
    environments: list[bytes] = []
    while running.process.poll() is None:
        heard |= listeners([running.process.pid, *running.marked()])
        for pid in running.ranks():
            try:
                environments.append(Path(f"/proc/{pid}/environ").read_bytes())
            except OSError:
                continue
        time.sleep(0.05)
    ended = running.end()
    assert ended.last["done"] == 2, ended.errors
    assert environments
    assert not any(SECRET.encode() in each for each in environments)
    assert heard, "the ranks' rendezvous was seen"
    assert heard <= {"127.0.0.1", "::1"}
    assert SECRET not in ended.errors + str(ended.last)
    files = [path for path in (tmp_path / "into").rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in files)
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
