"""Ray's launcher with cluster/deploy/onprem.yaml, over real SSH: `ray up`, then `ray submit` of the one file.

Three hosts: the operator's, who has the checkout and no Ray running, a head and a worker. What is installed there by
pip is taken from here instead: the environment, and for joulelaw the copy that the launcher made.
"""

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.cluster.driving import wait_for
from tests.hosts.hosts import HOME, ROOT, Hosts, reason_to_skip

TOOLS = ("/usr/sbin/sshd", "ssh", "ssh-keygen", "rsync")
MISSING = reason_to_skip() or ", ".join(f"no {tool}" for tool in TOOLS if shutil.which(tool) is None)
pytestmark = [
    pytest.mark.xdist_group("hosts"),
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "can run"),
]
OPERATOR, HEAD, WORKER = "host1", "host2", "host3"
SMALL = " --num-gpus=1 --num-cpus=1 --object-store-memory=80000000"
SWEEP = """\
schema: 1
name: launched
seed: 3
defaults: {vocab_size: 1000, hidden_size: 64, sequence_length: 32, micro_batch_size: 1}
grids:
  - {num_layers: [1, 2]}
window: {warmup_steps: 1, min_steps: 5, min_s: 0.5, max_s: 30, tolerance: 0}
hold_out: {by: case, fraction: 0.0}
metering: {meter: estimate, cpu_w_per_core: 10.0, idle_s: 0}
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """With an SSH server on head and worker that the operator's key opens, and the token with the operator."""
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("server", "operator"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with Hosts(3) as hosts:
        for name in (HEAD, WORKER):
            _copy(folder / "server", hosts[name].path("/run/key"))
            _copy(folder / "operator.pub", hosts[name].path("/run/authorized"))
            hosts[name].path("/run/sshd").mkdir()
            options = ["-o", "AuthorizedKeysFile=/run/authorized", "-o", "UsePAM=no", "-o", "StrictModes=no"]
            server = ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", "/run/key", *options]
            hosts.start(name, server, log=folder / f"{name}.log")
        home = hosts[OPERATOR].path(HOME)
        _copy(folder / "operator", home / "key")
        (home / ".ray").mkdir()
        (home / ".ray" / "auth_token").write_text(secrets.token_hex(16))
        (home / "cluster.yaml").write_text(yaml.safe_dump(_for_these_hosts(hosts)))
        yield hosts


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
    target.chmod(0o600)


def _for_these_hosts(hosts: Hosts) -> dict[str, object]:
    """onprem.yaml with these addresses, logical GPUs, and no pip."""
    made = yaml.safe_load((ROOT / "cluster" / "deploy" / "onprem.yaml").read_text())
    made["provider"] |= {"head_ip": hosts[HEAD].address, "worker_ips": [hosts[WORKER].address]}
    made["min_workers"] = made["max_workers"] = 1
    made["auth"] = {"ssh_user": "root", "ssh_private_key": f"{HOME}/key"}
    instead = {
        "python3.11 -m venv": f"ln -sfn {sys.prefix} ~/joulelaw-env",
        "-m pip install": "grep -qs PYTHONPATH ~/.bashrc || echo 'export PYTHONPATH=$HOME/joulelaw' >> ~/.bashrc",
    }
    for part, command in instead.items():
        (place,) = [i for i, each in enumerate(made["setup_commands"]) if part in each]
        made["setup_commands"][place] = command
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        made[key][-1] = made[key][-1].strip() + SMALL
    return dict(made)


def ray(hosts: Hosts, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command of Ray's launcher, from the root of the operator's checkout."""
    code = "import os, sys; os.chdir(sys.argv[1]); os.execvp('ray', ['ray', *sys.argv[2:]])"
    environment = {"RAY_AUTH_MODE": "token", "USER": "root"}
    command = ["python", "-c", code, str(ROOT), *arguments]
    return hosts.run(OPERATOR, command, env=environment, timeout_s=240)


def test_the_launcher_starts_a_cluster_and_submits_a_study(hosts: Hosts) -> None:
    up = ray(hosts, "up", "--yes", "--no-config-cache", f"{HOME}/cluster.yaml")
    assert up.returncode == 0, up.stdout + up.stderr
    wait_for(lambda: hosts.run(WORKER, ["pgrep", "-x", "raylet"]).returncode == 0)  # the head's autoscaler starts it
    (hosts[HEAD].path(HOME) / "sweep.yaml").write_text(SWEEP)
    asked = ("run", "sweep.yaml", "--into", "/tmp/study")
    done = ray(hosts, "submit", f"{HOME}/cluster.yaml", "bench/__main__.py", *asked)
    assert '{"command"' in done.stdout, done.stdout + done.stderr
    # Between a terminal's control characters: the launcher asks for one.
    last, _ = json.JSONDecoder().raw_decode(done.stdout[done.stdout.rindex('{"command"') :])
    assert last["done"] == 2, done.stdout + done.stderr
    assert last["exit_code"] in (0, 3)
    assert (done.returncode == 0) == (last["exit_code"] == 0)
    rows = pq.read_table(hosts[HEAD].path("/tmp/study/trials"), columns=["trial_id"]).num_rows
    assert rows == 2
    token = hosts[OPERATOR].path(HOME) / ".ray" / "auth_token"
    assert token.read_text() not in up.stdout + up.stderr + done.stdout + done.stderr
    for name in (HEAD, WORKER):
        copied = hosts[name].path(HOME) / ".ray" / "auth_token"
        assert copied.stat().st_mode & 0o077 == 0, "nobody else reads the token"
    down = ray(hosts, "down", "--yes", f"{HOME}/cluster.yaml")
    assert down.returncode == 0, down.stdout + down.stderr
