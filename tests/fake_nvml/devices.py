"""The devices of the fake NVML library as Python sees them: their settings, and their true energy in closed form."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Wave = Literal["constant", "square", "ramp", "burst"]
SensorClass = Literal["a100", "v100", "turing", "h100", "ampere"]
MODELS: Mapping[str, str] = {
    "a100": "NVIDIA A100-SXM4-40GB",
    "v100": "Tesla V100-SXM2-16GB",
    "turing": "NVIDIA GeForce RTX 2080 Ti",
    "h100": "NVIDIA H100 80GB HBM3",
    "ampere": "NVIDIA GeForce RTX 3090",
}
_64_BITS = 2**64 - 1


@dataclass(frozen=True)
class FakeGpu:
    """A device of the fake library; `settings` are its other keys, see fake_nvml.c. The waveform begins at the origin.

    Equal low and high power make any wave a constant one. `bursts` are (begin, length) in ms within a period, one
    after the other, all inside it.
    """

    uuid: str
    low_w: float = 200.0
    high_w: float = 200.0
    period_ms: float = 1000.0
    duty: float = 0.5
    tick_ms: float = 100.0
    name: str = ""
    sensor: SensorClass = "a100"
    wave: Wave = "square"
    bursts: tuple[tuple[float, float], ...] = ()
    phase_ms: float = 0.0
    tick_phase_ms: float = 0.0
    tick_jitter_ms: float = 0.0
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "settings"}
        own["name"] = self.name or MODELS[self.sensor]
        own["bursts"] = ",".join(f"{begin_ms}:{length_ms}" for begin_ms, length_ms in self.bursts)
        return ";".join(f"{key}={value}" for key, value in {**own, **self.settings}.items())

    def energy_j(self, begin_s: float, end_s: float) -> float:
        """True joules between two times since the origin, whatever gain, ticks and faults make of them."""
        phase_s = self.phase_ms / 1e3
        return self._drawn_j(end_s + phase_s) - self._drawn_j(begin_s + phase_s)

    def power_w(self, at_s: float) -> float:
        """True power at a time since the origin."""
        period_s = self.period_ms / 1e3
        rest_s = (at_s + self.phase_ms / 1e3) % period_s
        return self.low_w + (self.high_w - self.low_w) * self._level(rest_s, period_s)

    def last_tick_s(self, at_s: float) -> float:
        """When the counter last moved on, at this time since the origin or before."""
        if self.tick_ms <= 0:
            return at_s
        tick = math.floor((at_s - self.tick_phase_ms / 1e3) / (self.tick_ms / 1e3)) + 1
        while self.tick_s(tick) > at_s:
            tick -= 1
        return max(0.0, self.tick_s(tick))

    def tick_s(self, tick: int) -> float:
        """The time of a tick by its number, since the origin."""
        jitter_ms = self.tick_jitter_ms * _wobble(tick, self.seed)
        return (self.tick_phase_ms + tick * self.tick_ms + jitter_ms) / 1e3

    def _drawn_j(self, at_s: float) -> float:
        period_s = self.period_ms / 1e3
        periods = math.floor(at_s / period_s)
        high_s = periods * self._high_s(period_s, period_s) + self._high_s(at_s - periods * period_s, period_s)
        return self.low_w * at_s + (self.high_w - self.low_w) * high_s

    def _high_s(self, rest_s: float, period_s: float) -> float:
        """The integral of `_level` from the beginning of a period to `rest_s` into it."""
        up_s = self.duty * period_s
        down_s = period_s - up_s
        match self.wave:
            case "square":
                return min(rest_s, up_s)
            case "ramp" if rest_s < up_s:
                return rest_s**2 / (2 * up_s)
            case "ramp":
                fallen_s = (down_s**2 - (period_s - rest_s) ** 2) / (2 * down_s) if down_s > 0 else 0.0
                return up_s / 2 + fallen_s
            case "burst":
                return sum(min(max(0.0, rest_s - begin / 1e3), length / 1e3) for begin, length in self.bursts)
            case _:
                return 0.0

    def _level(self, rest_s: float, period_s: float) -> float:
        """From 0, low power, to 1, high power, at `rest_s` into a period."""
        up_s = self.duty * period_s
        match self.wave:
            case "square":
                return float(rest_s < up_s)
            case "ramp":
                return rest_s / up_s if rest_s < up_s else (period_s - rest_s) / (period_s - up_s)
            case "burst":
                return float(any(begin <= 1e3 * rest_s < begin + length for begin, length in self.bursts))
            case _:
                return 0.0


def _wobble(tick: int, seed: int) -> float:
    """As in device.h: splitmix64, between -0.5 and 0.5."""
    z = (tick + (seed + 1) * 0x9E3779B97F4A7C15) & _64_BITS
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return ((z ^ (z >> 31)) >> 11) / 2**53 - 0.5
