"""This machine for one part at a time: a process on the device, the meter read beside it, joules of what it names."""

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from joulelaw.bench.gpu_check.card import Card
from joulelaw.bench.gpu_check.meter_figures import Stretch, figures_of
from joulelaw.bench.gpu_check.parts import Part
from joulelaw.bench.training.preload import ENVIRONMENT, PRELOAD
from joulelaw.cluster.failures import ClusterError
from joulelaw.cluster.power.meter import Reading, open_meter
from joulelaw.cluster.power.sampler import Sampler
from joulelaw.cluster.ranks.gang import GangState
from joulelaw.cluster.ranks.local import LocalGang
from joulelaw.cluster.ranks.server import ForkServer

ENTRY = "joulelaw.bench.gpu_check.rank:run"
LOOK_EVERY_S = 0.02
# Readings beyond the last stretch, so that a slow counter has moved on.
BEYOND_S = 0.3
# A part that takes so many times as long as it should is given up.
PATIENCE, PATIENCE_S = 3.0, 60.0


class PartError(ClusterError):
    """A part did not succeed."""


class Machine:
    """A fork server, and a sampler while a part wants one. Make it in a `with`."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._server = ForkServer(PRELOAD, ENVIRONMENT)
        self._sampler: Sampler | None = None
        self._readings: list[Reading] = []

    def run(self, part: Part, most_s: float) -> dict[str, Any]:
        """What the part returns, with the joules of its stretches.

        Raises:
            PartError: its process failed, or took far longer than it should, or than `most_s`.
            ClusterError: no process can be started at all.
        """
        until_s = time.monotonic() + min(PATIENCE * part.seconds + PATIENCE_S, most_s)
        logs = Path(tempfile.mkdtemp(prefix="joulelaw-check-"))
        self._readings = []
        self._sample(True)
        meter, sensor, rate_hz = self._meter_told()
        gang = LocalGang(self._server, [self._card.device], self._card.node.node_id)
        try:
            gang.start(ENTRY, {"function": part.function, "arguments": part.arguments}, logs)
            events = self._listen(gang, part, until_s)
        finally:
            if too_long := gang.state is GangState.RUNNING:
                gang.stop()
            time.sleep(BEYOND_S)
            self._sample(False)
        values = [event["values"] for event in events if event["kind"] == "values"]
        if gang.state is not GangState.DONE or not values:
            errors = [f"{event['type']}: {event['message']}" for event in events if event["kind"] == "error"]
            raise PartError(errors[0] if errors else "it took too long" if too_long else gang.failure or "it left")
        shutil.rmtree(logs, ignore_errors=True)  # kept where it failed
        stretches = [Stretch.of(event) for event in events if event["kind"] == "stretch"]
        joules = figures_of(stretches, self._readings, meter["name"], self._card.device.uuid)
        return {**values[0], **joules, "meter": meter, "sensor": sensor, "rate_hz": rate_hz}

    def _listen(self, gang: LocalGang, part: Part, until_s: float) -> list[Mapping[str, Any]]:
        events: list[Mapping[str, Any]] = []
        while gang.state is GangState.RUNNING and time.monotonic() < until_s:
            for event in gang.poll():
                events.append(event)
                if event["kind"] == "ready":
                    if self._sampler is not None:
                        self._sampler.watch(self._card.device.uuid, [event["pid"]])
                        if part.closely:
                            self._sampler.look_closely(part.seconds)
                    gang.tell({"kind": "go"})
                elif event["kind"] == "sampling":
                    self._sample(event["on"])
                    gang.tell({"kind": "go"})
            time.sleep(LOOK_EVERY_S)
        return [*events, *gang.poll()]

    def _sample(self, on: bool) -> None:
        """Has the meter read from now on, or not; what was read before is kept."""
        if on and self._sampler is None:
            options = self._card.meter_options
            self._sampler = Sampler(open_meter([self._card.device], options), options.rate_hz)
        elif not on and self._sampler is not None:
            self._sampler.stop()
            self._readings += self._sampler.drain()
            self._sampler = None

    def _meter_told(self) -> tuple[dict[str, str], dict[str, Any], float]:
        """The meter's name, kind and boundary, what it knows of the device's sensor, and its rate."""
        assert self._sampler is not None
        meter = self._sampler.meter
        sensors = {domain: asdict(sensor) for domain, sensor in meter.sensors.items()}
        told = {"name": meter.name, "kind": meter.kind, "boundary": meter.boundary}
        return told, next(iter(sensors.values()), {}), self._sampler.rate_hz

    def close(self) -> None:
        self._sample(False)
        self._server.close()

    def __enter__(self) -> Self:
        """Starts the fork server and waits for its libraries; ForkServerError where it is not fit to fork."""
        self._server.start()
        self._server.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
