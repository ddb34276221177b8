"""Ray itself: a quiet local one that ends with us, or a connection to a cluster that stays."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from joulelaw.cluster.failures import RayLostError
from joulelaw.cluster.nodes.inventory import inspect_node, usable_cores
from joulelaw.cluster.ranks.scratch import RAY_PREFIX, ScratchFolder
from joulelaw.cluster.rayconnect import ROOT, connect_ray

_OBJECT_STORE_BYTES = 100 << 20  # we pass small messages; Ray's default is 30 % of the memory
_ESSENTIAL = ("gcs_server", "raylet")
# Ray's 15 would let anything else go before ranks and samplers; and nobody looks at its task events and metrics, which
# take the cores that ranks are measured on.
_QUIET = {"worker_niceness": 0, "task_events_report_interval_ms": 0, "enable_metrics_collection": False}
_TEMP_PATH_BYTES = 40  # Ray adds up to 64 for its sockets, whose paths have at most 107


@dataclass
class RaySession:
    """What we started of Ray, and therefore end: nothing, a connection, or a whole local Ray with its files."""

    connected: bool
    scratch: ScratchFolder | None = None

    @property
    def lost(self) -> str:
        """Which process of the local Ray is gone, if any: nothing can be asked of Ray then."""
        node = ray._private.worker._global_node if self.scratch else None
        return ", ".join(str(kind) for kind, _ in node.dead_processes() if kind in _ESSENTIAL) if node else ""

    def check(self) -> None:
        """Raises RayLostError where the local Ray is gone, well before Ray itself notices."""
        if lost := self.lost:
            raise RayLostError(f"the local Ray died: its {lost} is gone; run the same command again to go on")

    def close(self) -> None:
        if self.lost:  # while some of its processes live and others do not, ray.shutdown would wait for an answer
            ray._private.worker._global_node.kill_all_processes(check_alive=False, allow_graceful=False)
        if self.connected:
            ray.shutdown()
        if self.scratch is not None:
            self.scratch.remove()


def open_ray(address: str | None, cores_per_device: int = 1) -> RaySession:
    """Connects to `address`, to RAY_ADDRESS, or to a new local Ray with a GPU for each device of this machine.

    A Ray that this process is connected to already is used as it is and left so.
    """
    if ray.is_initialized():
        return RaySession(connected=False)
    wanted = address or os.environ.get("RAY_ADDRESS")
    with _quiet_environment():
        if wanted and wanted != "local":
            connect_ray(wanted)
            _mute()
            return RaySession(connected=True)
        return _start(len(inspect_node(cores_per_device=cores_per_device).devices))


def _start(devices: int) -> RaySession:
    scratch = ScratchFolder.create(RAY_PREFIX, _TEMP_PATH_BYTES)  # parallel studies, or tests, share nothing
    try:
        ray.init(
            address="local",
            num_cpus=len(usable_cores()),
            num_gpus=devices,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=str(scratch.path),
            _system_config=_QUIET,
        )
        _mute()
        _end_helpers()
    except BaseException:
        ray.shutdown()
        scratch.remove()
        raise
    return RaySession(connected=True, scratch=scratch)


def _mute() -> None:
    """Ray prints long reports of dead workers to standard output, where programs read ours. We tell what matters."""
    ray._private.worker.print_to_stdstream = lambda *_, **__: None


def _end_helpers() -> None:
    """Ends what a local Ray does not need: its looks at every log ten times a second, and its autoscaler."""
    node = ray._private.worker._global_node
    node.kill_log_monitor(check_alive=False)
    node.kill_monitor(check_alive=False)


@contextmanager
def _quiet_environment() -> Iterator[None]:
    """What Ray's processes inherit: a path on which they find us, no usage report, no warning on idle accelerators."""
    path = os.pathsep.join(part for part in (ROOT, os.environ.get("PYTHONPATH", "")) if part)
    ours = {"PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
