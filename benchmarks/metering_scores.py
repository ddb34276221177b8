"""Errors of measured windows, and the tables made of them."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from measuring import table
from metering_devices import load_of

from tests.fake_nvml.devices import FakeGpu

NAMES = {
    "joulelaw, any window": "**joulelaw**, any window",
    "joulelaw meter": "**joulelaw meter**, from tick to tick where there is one",
    "zeus": "Zeus 0.16, begin_window to end_window",
    "codecarbon 15 s": "CodeCarbon 3.3.2, start to stop, every 15 s (its default)",
    "codecarbon 0.1 s": "CodeCarbon 3.3.2, every 0.1 s",
    "polling 0.1 s": "a loop: power x time, every 0.1 s",
    "aligned": "a few lines that wait for a tick at both ends",
}


@dataclass(frozen=True)
class Window:
    """One measured window of one device. Without joules the tool gave none, or none that is valid."""

    gpu: FakeGpu
    nominal_s: float
    joules: float | None
    stderr_j: float | None
    true_j: float
    gain_bound: float | None = None

    @property
    def error(self) -> float:
        """Of what is found at the sensor's gain, relative to the truth."""
        assert self.joules is not None
        return self.joules / self.true_j - 1


@dataclass
class Errors:
    """All windows, by set of devices and tool."""

    windows: dict[tuple[str, str], list[Window]] = field(default_factory=dict)
    without: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, name: str, tool: str, windows: Iterable[Window]) -> None:
        for window in windows:
            key = (name, tool)
            if window.joules is None:
                self.without[key] = self.without.get(key, 0) + 1
            else:
                self.windows.setdefault(key, []).append(window)


def scores(windows: Sequence[Window], lengths_s: Sequence[int]) -> dict[str, Any]:
    """Mean and worst absolute error in % by length; what is stated of it."""
    found: dict[str, Any] = {"windows": len(windows)}
    for length_s in lengths_s:
        mine = [window for window in windows if window.nominal_s == length_s]
        errors = [100 * abs(window.error) for window in mine]
        if errors:
            worst = max(mine, key=lambda window: abs(window.error))
            changing = [100 * abs(window.error) for window in mine if load_of(window.gpu) != "constant"]
            found[f"{length_s} s"] = {
                "mean": statistics.fmean(errors),
                "worst": max(errors),
                "worst_of": worst.gpu.uuid,
                "mean_without_constant_loads": statistics.fmean(changing),
                "windows": len(errors),
            }
    return found | stated(windows)


def stated(windows: Sequence[Window]) -> dict[str, Any]:
    """The share of windows whose error is within 1.96 standard errors, and how wide those are."""
    told = [(each.joules - each.true_j, each.stderr_j, each.true_j) for each in windows if each.stderr_j is not None]
    if not told:
        return {}
    rms_j = math.sqrt(statistics.fmean(error**2 for error, _, _ in told))
    return {
        "covered": statistics.fmean(abs(error) <= 1.96 * stderr_j for error, stderr_j, _ in told),
        "half_width_%": statistics.median(196 * stderr_j / true_j for _, stderr_j, true_j in told),
        "stated_over_found": math.sqrt(statistics.fmean(stderr_j**2 for _, stderr_j, _ in told)) / rms_j,
    }


def summary(
    errors: Errors, judged: list[dict[str, Any]], costs: list[float], hook: dict[str, Any], lengths_s: Sequence[int]
) -> dict[str, Any]:
    """Everything that was found, as JSON has it."""
    found: dict[str, Any] = {"tools": {}, "stated": {}, "gain": [], "without_number": {}}
    for (name, tool), windows in errors.windows.items():
        if name in ("counter", "no counter"):
            found["tools"].setdefault(name, {})[tool] = scores(windows, lengths_s)
        if name != "gain" and tool == "joulelaw, any window":
            found["stated"] |= _by_kind(name, windows)
    for gain in (1.05, 0.93):
        mine = [each for each in errors.windows[("gain", "joulelaw, any window")] if each.gpu.settings["gain"] == gain]
        off = [each.error - (gain - 1) for each in mine]
        within = [
            abs(each.error) <= (each.gain_bound or 0) + 1.96 * (each.stderr_j or 0) / each.true_j for each in mine
        ]
        found["gain"].append(
            {
                "gain": gain,
                "windows": len(mine),
                "mean_%": 100 * statistics.fmean(each.error for each in mine),
                "off_%": 100 * statistics.fmean(abs(each) for each in off),
                "within_bound": statistics.fmean(within),
            }
        )
    found["without_number"] = {f"{name}: {tool}": count for (name, tool), count in errors.without.items()}
    return found | {"faults": judged, "sampler_share": max(costs), "hook": hook}


def _by_kind(name: str, windows: Sequence[Window]) -> dict[str, Any]:
    """Of each sensor and each load."""
    found = {}
    for sensor in dict.fromkeys(each.gpu.sensor for each in windows):
        found[f"{name}, {sensor}"] = stated([each for each in windows if each.gpu.sensor == sensor])
    for load in dict.fromkeys(load_of(each.gpu) for each in windows):
        found[f"{name}, {load}"] = stated([each for each in windows if load_of(each.gpu) == load])
    return found


def markdown(found: dict[str, Any]) -> str:
    """The tables, as docs/metering.md has them."""
    parts = []
    for name, tools in found["tools"].items():
        lengths = [key for key in next(iter(tools.values())) if key.endswith(" s")]
        rows = [
            [
                NAMES[tool],
                *(f"{score[key]['mean']:.2f} ({score[key]['worst']:.2f})" for key in lengths),
                score["windows"],
            ]
            for tool, score in tools.items()
        ]
        if name == "no counter" and "zeus" in tools:
            means = [f"{tools['zeus'][key]['mean_without_constant_loads']:.2f}" for key in lengths]
            rows.append(["Zeus, without the constant loads", *means, ""])
        title = "With the energy counter" if name == "counter" else "Without a counter: power alone"
        parts.append(f"{title}; mean (worst) error in %:\n\n" + table(["", *lengths, "windows"], rows))
    rows = [
        [kind, f"{100 * of['covered']:.1f} %", f"{of['half_width_%']:.2f} %", f"{of['stated_over_found']:.1f}"]
        for kind, of in found["stated"].items()
    ]
    header = ["joulelaw, any window", "errors within the stated 95 %", "stated half-width, median", "stated over found"]
    parts.append("What is stated of the error:\n\n" + table(header, rows))
    rows = [
        [each["gain"], f"{each['mean_%']:+.3f} %", f"{each['off_%']:.3f} %", f"{100 * each['within_bound']:.1f} %"]
        for each in found["gain"]
    ]
    header = ["the sensor's gain", "mean error", "mean of error less (gain - 1)", "within the stated systematic bound"]
    parts.append(table(header, rows))
    rows = [
        [each["fault"], ", ".join(each["verdict"]), "as it must be" if each["held"] else "**WRONG**"]
        for each in found["faults"]
    ]
    parts.append(table(["fault in the window", "verdict", ""], rows))
    hook = found["hook"]
    parts.append(
        f"Sampling 8 devices at 20 Hz takes {100 * found['sampler_share']:.2f} % of a core. The hook in the training "
        f"loop takes {hook['hook_us']:.0f} us of processor time a step, {100 * hook['hook_share']:.2f} % of the steps' "
        f"own (BERT-tiny, {hook['step_ms']:.1f} ms a step)."
    )
    if found["without_number"]:
        told = "; ".join(f"{key}: {count}" for key, count in found["without_number"].items())
        parts.append(f"Windows without a number: {told}.")
    return "\n\n".join(parts) + "\n"
