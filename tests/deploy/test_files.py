"""The files of cluster/deploy: valid where they can be checked, the token and the niceness set wherever Ray starts."""

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "cluster" / "deploy"
LAUNCHERS = ("onprem.yaml", "aws.yaml")
# The fields of KubeRay's custom resource (ray.io_rayjobs.yaml, v1, at feeaf72), as far as they are used here.
RAY_JOB = {
    "": {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "runtimeEnvYAML"}
    | {"rayClusterSpec", "submissionMode", "activeDeadlineSeconds", "suspend"},
    "rayClusterSpec": {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling"},
    "headGroupSpec": {"rayStartParams", "template", "serviceType", "resources", "labels"},
    "workerGroupSpecs": {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    | {"numOfHosts", "resources", "labels"},
}


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return loaded


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_file_is_valid_for_ray(name: str) -> None:
    validate_config(prepare_config(load(name)))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_mistake_in_a_launcher_file_would_be_seen(name: str) -> None:
    broken = load(name)
    broken["worker_start_commands"] = broken.pop("worker_start_ray_commands")
    with pytest.raises(Exception, match="worker_start_commands"):
        validate_config(prepare_config(broken))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_all_nodes_are_there_all_the_time(name: str) -> None:
    prepared = prepare_config(load(name))
    kinds = [each for kind, each in prepared["available_node_types"].items() if each["max_workers"]]
    assert kinds
    assert all(each["min_workers"] == each["max_workers"] for each in kinds)
    assert sum(each["max_workers"] for each in kinds) == prepared["max_workers"]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_wherever_ray_starts_it_has_the_token_and_the_usual_niceness(name: str) -> None:
    made = load(name)
    starts = [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in made[key]
        if "ray start" in command
    ]
    assert len(starts) == 2
    for command in starts:
        assert "RAY_AUTH_MODE=token" in command
        assert "RAY_worker_niceness=0" in command
        assert "--metrics-export-port=" in command
    assert made["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("RAY_AUTH_MODE=token" in command for command in made["setup_commands"]), "for `ray submit`"
    assert "RAY_AUTH_TOKEN=" not in (DEPLOY / name).read_text()


def test_what_the_launcher_copies_is_what_is_installed() -> None:
    """All that building the package reads, and nothing that is not there."""
    copied = {local for local in load("onprem.yaml")["file_mounts"].values() if not local.startswith("~")}
    assert all((ROOT / local).exists() for local in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tools = project["tool"]["setuptools"]
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    needed |= set(tools["package-dir"].values()) | {f"{name}.py" for name in tools["py-modules"]}
    assert needed <= copied
    assert "constraints.txt" in copied


@pytest.mark.parametrize("name", ["aws.yaml", "rayjob.yaml", "slurm.sh", "Dockerfile"])
def test_what_was_not_tried_says_so_at_once(name: str) -> None:
    lines = [line for line in (DEPLOY / name).read_text().splitlines() if not line.startswith("#!")]
    assert lines[0].startswith("# Untried: ")


def test_the_ray_job_has_the_fields_of_kuberay() -> None:
    job = load("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert set(spec) <= RAY_JOB[""]
    assert set(cluster) <= RAY_JOB["rayClusterSpec"]
    assert set(cluster["headGroupSpec"]) <= RAY_JOB["headGroupSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == ray.__version__
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= RAY_JOB["workerGroupSpecs"]
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "RAY_worker_niceness", "value": "0"} in container["env"]
        volumes = {each["name"] for each in group["template"]["spec"]["volumes"]}
        assert {each["name"] for each in container["volumeMounts"]} <= volumes
    assert isinstance(yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"], dict)


def test_the_slurm_script_is_a_script() -> None:
    script = DEPLOY / "slurm.sh"
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True).stderr == ""
    lines = script.read_text().splitlines()
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert options[-1] < first, "sbatch reads no option behind the first command"
    assert script.stat().st_mode & 0o100


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_slurm_script_passes_shellcheck() -> None:
    found = subprocess.run(["shellcheck", str(DEPLOY / "slurm.sh")], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
