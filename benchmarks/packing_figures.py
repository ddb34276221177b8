"""How busy devices were, and how long they waited for their next trial, from when each trial ran where."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Span:
    """A trial on its devices, in seconds of the driver's clock."""

    begin_s: float
    end_s: float
    devices: tuple[str, ...]

    @property
    def trial_s(self) -> float:
        return self.end_s - self.begin_s


@dataclass(frozen=True)
class Figures:
    """Of one run of a study. Shares are lower bounds of the time taken, divided by it; `warm_share` from the moment on
    when every device has had a trial. `driver_cpu_s` is the processor's time of the driver in `loop_s` seconds."""

    trials: int
    wall_s: float
    bound_s: float
    bound_share: float
    warm_share: float
    one_by_one_s: float
    gap_ms_median: float
    gap_ms_p95: float
    gap_ms_worst: float
    driver_cpu_s: float
    loop_s: float

    @property
    def driver_cpu_ms(self) -> float:
        """A trial's share, with what each second costs."""
        return 1e3 * self.driver_cpu_s / self.trials


def apart(studies: Sequence[Figures]) -> tuple[float, float, float]:
    """What the driver's processor time is for, in ms: for a trial by itself, for each second that it runs (its readings
    and steps come and are stored), and for each second of the study.

    From three studies: cpu = trials * a + seconds of all trials, added up * b + seconds of the study * c in each.
    """
    matrix = [[each.trials, each.one_by_one_s, each.loop_s] for each in studies]
    found = np.linalg.solve(matrix, [each.driver_cpu_s for each in studies])
    trial_ms, running_ms, second_ms = (1e3 * found).tolist()
    return trial_ms, running_ms, second_ms


def figures(spans: Sequence[Span], devices: int, driver_cpu_s: float, loop_s: float) -> Figures:
    """What the spans say together. `driver_cpu_s` and `loop_s` are for all trials."""
    begin_s, end_s = min(span.begin_s for span in spans), max(span.end_s for span in spans)
    used = {device for span in spans for device in span.devices}
    warm_s = max(min(span.begin_s for span in spans if device in span.devices) for device in used)
    rest = [Span(max(span.begin_s, warm_s), span.end_s, span.devices) for span in spans if span.end_s > warm_s]
    gaps = sorted(gaps_ms(spans)) or [0.0]  # none where each device had one trial
    return Figures(
        trials=len(spans),
        wall_s=end_s - begin_s,
        bound_s=bound_s(spans, devices),
        bound_share=bound_s(spans, devices) / (end_s - begin_s),
        warm_share=bound_s(rest, devices) / (end_s - warm_s),
        one_by_one_s=sum(span.trial_s for span in spans),
        gap_ms_median=statistics.median(gaps),
        gap_ms_p95=gaps[int(0.95 * (len(gaps) - 1))],
        gap_ms_worst=gaps[-1],
        driver_cpu_s=driver_cpu_s,
        loop_s=loop_s,
    )


def bound_s(spans: Sequence[Span], devices: int) -> float:
    """What no schedule of these trials on so many devices can be shorter than."""
    work_s = sum(span.trial_s * len(span.devices) for span in spans)
    return max(work_s / devices, max(span.trial_s for span in spans))


def gaps_ms(spans: Sequence[Span]) -> list[float]:
    """For each trial but the first on its devices: since the last of them became free."""
    gaps = []
    for span in spans:
        mine = set(span.devices)
        before = [other.end_s for other in spans if other.begin_s < span.begin_s and mine & set(other.devices)]
        if before:
            gaps.append(1e3 * (span.begin_s - max(before)))
    return gaps
