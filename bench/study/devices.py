"""The catalogue of a study: the shipped one, and what is measured here of devices that it does not list."""

import datetime
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.study.probed_device import device_spec
from joulelaw.cluster.failures import ClusterError
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.ranks.gang import Gang, GangState
from joulelaw.model.hardware import Catalogue, DeviceSpec, UnknownDevice, to_toml

PROBE = "joulelaw.bench.study.probe:run_probe"
PROBE_TIMEOUT_S = 120.0

# A gang over so many devices of a model, given back at the end of the `with`.
Borrow = Callable[[str, int], AbstractContextManager[Gang]]


class Lender(Protocol):
    """Who lends gangs: a cluster, or this machine alone."""

    def acquire(self, model: str, count: int) -> Gang: ...
    def release(self, gang: Gang) -> None: ...


@contextmanager
def borrowed(lender: Lender, model: str, count: int) -> Iterator[Gang]:
    """A gang for the length of a `with`."""
    gang = lender.acquire(model, count)
    try:
        yield gang
    finally:
        lender.release(gang)


def study_catalogue(nodes: Sequence[Node], saved: Place | None, borrow: Borrow) -> tuple[Catalogue, str]:
    """The catalogue with every device model of the nodes, and its additions as TOML, to be saved with the results.

    `saved` is the devices.toml of a study that goes on: what is in it is not measured again.
    """
    catalogue = Catalogue.load([saved] if saved is not None and saved.is_file() else [])
    text = saved.read_text(encoding="utf-8") if saved is not None and saved.is_file() else ""
    new = [_measured(model, nodes, borrow) for model in unlisted(nodes, catalogue)]
    devices = {**catalogue.devices, **{spec.name: spec for spec in new}}
    return Catalogue(devices), "\n".join([*([text] if text else []), *map(to_toml, new)])


def unlisted(nodes: Sequence[Node], catalogue: Catalogue) -> list[str]:
    """The device models of the nodes that the catalogue lacks."""
    missing: dict[str, None] = {}
    for device in _devices(nodes):
        try:
            catalogue.get(device.model)
        except UnknownDevice:
            missing.setdefault(device.model)
    return list(missing)


def _devices(nodes: Sequence[Node]) -> list[Device]:
    return [device for node in nodes for device in node.devices]


def _measured(model: str, nodes: Sequence[Node], borrow: Borrow) -> DeviceSpec:
    """One device alone, or two of a node that has two, so that their link is measured as well."""
    most = max(sum(device.model == model for device in node.devices) for node in nodes)
    device = next(each for each in _devices(nodes) if each.model == model)
    logs = Path(tempfile.mkdtemp(prefix="joulelaw-probe-"))
    with borrow(model, min(2, most)) as gang:
        event = _run(gang, logs)
    shutil.rmtree(logs, ignore_errors=True)  # kept where the probe failed: the message names it
    today = datetime.datetime.now(datetime.UTC).date()
    return device_spec(event, model, device.memory_bytes, device.power_limit_w, today, device.kind)


def _run(gang: Gang, logs: Path) -> dict[str, Any]:
    gang.start(PROBE, {}, logs)
    deadline = time.monotonic() + PROBE_TIMEOUT_S
    events: list[dict[str, Any]] = []
    while gang.state is GangState.RUNNING and time.monotonic() < deadline:
        events += gang.poll()
        time.sleep(0.05)
    found = [event for event in events if event["kind"] == "probe"]
    if gang.state is not GangState.DONE or not found:
        gang.stop()
        raise ClusterError(f"the device's peaks could not be measured: {gang.failure or 'it took too long'}")
    return found[0]
