"""How busy a study keeps its devices: 48 short trials in groups of 1, 2 and 4 on eight logical devices.

    python benchmarks/packing.py [--seed 0] [--quick] [--out docs/packing.md]

The study runs twice on two Ray nodes of four devices each: as `joulelaw run` does, and first come, first served. All
of it is real but the steps, which wait (see sleeping_rank.py). Prints Markdown and, last, one JSON object.
"""

import argparse
import cProfile
import json
import os
import pstats
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from measuring import machine, table  # noqa: E402
from packing_figures import Figures, Span, apart, figures  # noqa: E402
from ray_nodes import RayNodes, Shape  # noqa: E402
from sleeping_rank import SEQUENCE_S  # noqa: E402
from study_watch import attempts_of  # noqa: E402

SHAPES = (Shape(4), Shape(4))
DEVICES = sum(shape.devices for shape in SHAPES)
# Of a sleeping trial, from its launch to its first step.
SETUP_S = 0.4
SWEEP = """\
schema: 1
name: packing
seed: {seed}
defaults: {{vocab_size: 500, num_layers: 1, hidden_size: 64, sequence_length: 8}}
grids:
  - {{micro_batch_size: [1, 2, 3, 4, 5, 6]}}
  - {{strategy: ddp, gpu_count: 2, micro_batch_size: [1, 2, 3, 4]}}
  - {{strategy: ddp, gpu_count: 4, micro_batch_size: [2, 4]}}
repeats: {repeats}
window: {{warmup_steps: 1, min_steps: 20, tolerance: 0}}
hold_out: {{fraction: 0}}
metering: {{meter: estimate, cpu_w_per_core: 10.0, idle_s: 0}}
"""
# Few long trials on the same devices: of 20 s.
STEADY = """\
schema: 1
name: steady
seed: {seed}
defaults: {{vocab_size: 500, num_layers: 1, hidden_size: 64, sequence_length: 8}}
grids:
  - {{micro_batch_size: [4]}}
repeats: {repeats}
window: {{warmup_steps: 1, min_steps: 100, tolerance: 0}}
hold_out: {{fraction: 0}}
metering: {{meter: estimate, cpu_w_per_core: 10.0, idle_s: 0}}
"""
EXPLAINED = """\
48 trials in groups of 1, 2 and 4 (24, 16 and 8 of them) on two Ray nodes of four logical devices each, which share the
cores of one machine. So steps wait instead of computing: 50 ms for each sequence of the micro-batch, 20 steps a trial.
All else is real: Ray, its actors, fork servers and forked ranks, Gloo groups, samplers, readings, and the dataset.
Forecasts of the trials' times are off by up to 30 % either way, drawn by the seed. Verdicts are not looked at: a core
that sleeps has next to no energy.

Lower bound: device-seconds of all trials, as they took, divided by the devices, or the longest trial. Warm: from the
moment when every device has had a trial. One after the other: the sum of their times. Gap: from the end of a trial's
last rank to the begin of the next trial on its devices, the last of them that became free. Driver: the processor's time
of the study's process, all threads, while trials ran; a trial's share has a part for each second, of readings and steps
that come and are stored, and of a loop that looks after eight devices. What a trial costs by itself is told apart by
two more studies, of 8 trials of 20 s and of 2. First come, first served: in an order drawn by the seed, and none
overtakes; by the same loop."""


def spans_of(folder: Path) -> list[Span]:
    """When each trial ran; from its launch to its ranks' last event."""
    from joulelaw.bench.dataset.dataset import read_trials

    rows = read_trials(folder)
    if not (rows["status"] == "done").all():
        raise SystemExit(f"trials failed: {sorted(set(rows['failure']))}")
    begun = {(each.trial_id, each.attempt): each.begin_ns / 1e9 for each in attempts_of(folder)}
    begins = [begun[key] for key in zip(rows["trial_id"], rows["attempt"], strict=True)]
    ends = [begin_s + trial_s for begin_s, trial_s in zip(begins, rows["trial_s"], strict=True)]
    return [Span(*each) for each in zip(begins, ends, map(tuple, rows["device_uuids"]), strict=True)]


def run_once(sweep: str, seed: int, profile: Path | None) -> Figures:
    """The study, once, in this process."""
    from joulelaw.bench.study import loop as study_loop
    from joulelaw.bench.study.study import run_study
    from joulelaw.bench.trial import running as running_trial

    spent_s: list[tuple[float, float]] = []
    carry_out = study_loop.StudyLoop.run

    def timed(loop: Any) -> None:
        before_s, begin_s, profiler = time.process_time(), time.monotonic(), cProfile.Profile(time.thread_time)
        if profile:
            profiler.enable()
        carry_out(loop)
        profiler.disable()
        spent_s.append((time.process_time() - before_s, time.monotonic() - begin_s))
        if profile:
            print(json.dumps(dict(threads())), file=sys.stderr)
            with profile.open("w") as file:
                file.write("".join(f"{name}: {cpu_s:.2f} s\n" for name, cpu_s in threads()))
                pstats.Stats(profiler, stream=file).sort_stats("tottime").print_stats(40)
                pstats.Stats(profiler, stream=file).sort_stats("cumulative").print_stats(70)

    with (
        mock.patch("joulelaw.bench.plan.making.priced", off_by_some(seed)),
        tempfile.TemporaryDirectory() as home,
        mock.patch.object(running_trial, "ENTRY", "benchmarks.sleeping_rank:run_rank"),
        mock.patch.object(study_loop.StudyLoop, "run", timed),
    ):
        (Path(home) / "packing.yaml").write_text(sweep)
        run_study(Path(home) / "packing.yaml", Path(home) / "out")
        return figures(spans_of(Path(home) / "out"), DEVICES, *spent_s[0])


def threads() -> list[tuple[str, float]]:
    """The processor's time of each thread of this process since it began, those first that took most."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    names = {each.native_id: each.name for each in threading.enumerate()}
    taken: dict[str, float] = {}
    for task in Path("/proc/self/task").iterdir():
        head, _, rest = (task / "stat").read_text().rpartition(")")
        name = names.get(int(task.name)) or head.partition("(")[2]
        taken[name] = taken.get(name, 0.0) + tick_s * sum(map(int, rest.split()[11:13]))
    return sorted(taken.items(), key=lambda item: -item[1])


def off_by_some(seed: int) -> Callable[..., list[Any]]:
    """Prices whose seconds are those of a sleeping trial, off by up to 30 % either way."""
    from joulelaw.bench.plan import price as plan_price
    from joulelaw.bench.plan.plan import Price

    counted_price, dice = plan_price.priced, random.Random(seed)

    def priced(specs: Sequence[Any], *others: Any) -> list[Price]:
        prices = []
        for spec, price in zip(specs, counted_price(specs, *others), strict=True):
            step_s = SEQUENCE_S * spec.configuration.micro_batch_size
            steps = spec.window.warmup_steps + spec.window.min_steps + 1  # the last one for its peak of memory
            prices.append(replace(price, step_s=step_s, trial_s=dice.uniform(0.7, 1.3) * (SETUP_S + steps * step_s)))
        return prices

    return priced


def first_come_first_served(seed: int) -> Callable[[], Any]:
    """A board for the study's loop on which no trial overtakes another."""
    from joulelaw.cluster.scheduling.board import Board
    from joulelaw.cluster.scheduling.scheduler import Assignment

    class Queue(Board):
        _order: list[Any] | None = None

        def next(self, now_s: float) -> Assignment | None:
            self._capacity.advance(now_s)
            if self._order is None:
                self._order = sorted(self.waiting)
                random.Random(seed).shuffle(self._order)
            self._order = [each for each in self._order if each in self.waiting]
            if not self._order:
                return None
            trial_id = self._order[0]
            nodes = self._capacity.choose(self._queues[self._model_of[trial_id]].trials[trial_id], {})
            return None if nodes is None else Assignment(trial_id, nodes)

    return Queue


def markdown(ours: Figures, naive: Figures, steady: Sequence[Figures], command: str, where: str) -> str:
    parts, naive_parts = apart([ours, *steady]), apart([naive, *steady])
    of_that = ("of that a trial by itself", "for each second that a trial runs", "and for each second of the study")
    rows = [
        ("s from the first begin to the last end", f"{ours.wall_s:.1f}", f"{naive.wall_s:.1f}"),
        ("lower bound, s", f"{ours.bound_s:.1f}", f"{naive.bound_s:.1f}"),
        ("lower bound / taken", f"{ours.bound_share:.1%}", f"{naive.bound_share:.1%}"),
        ("the same once warm", f"**{ours.warm_share:.1%}**", f"{naive.warm_share:.1%}"),
        ("one after the other it would take, s", f"{ours.one_by_one_s:.0f}", f"{naive.one_by_one_s:.0f}"),
        ("gap, median, ms", f"**{ours.gap_ms_median:.1f}**", f"{naive.gap_ms_median:.1f}"),
        ("gap, 95th percentile, ms", f"{ours.gap_ms_p95:.0f}", f"{naive.gap_ms_p95:.0f}"),
        ("gap, worst, ms", f"{ours.gap_ms_worst:.0f}", f"{naive.gap_ms_worst:.0f}"),
        ("driver's processor time a trial, ms", f"**{ours.driver_cpu_ms:.0f}**", f"{naive.driver_cpu_ms:.0f}"),
        *(
            (f"{what}, ms", f"{ms:.1f}", f"{other:.1f}")
            for what, ms, other in zip(of_that, parts, naive_parts, strict=True)
        ),
    ]
    header = ("", "`joulelaw run`", "first come, first served")
    return "\n\n".join(("# How busy devices are kept", EXPLAINED, f"`{command}` on {where}.", table(header, rows)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a quarter of the trials")
    parser.add_argument("--no-fifo", action="store_true", help="without first come, first served")
    parser.add_argument("--profile", type=Path, help="write there where the driver's time goes (costs some)")
    parser.add_argument("--out", type=Path, help="also write the Markdown there")
    options = parser.parse_args()
    sweep = SWEEP.format(seed=options.seed, repeats=1 if options.quick else 4)
    where = machine()
    with RayNodes(SHAPES) as cluster:
        os.environ["RAY_ADDRESS"] = cluster.address
        ours = run_once(sweep, options.seed, options.profile)
        print(json.dumps(asdict(ours)), file=sys.stderr)
        long = [STEADY.format(seed=options.seed, repeats=number) for number in (DEVICES, 2)]
        steady = [run_once(each, options.seed, None) for each in long]
        print(json.dumps({"steady": [asdict(each) for each in steady], "ms": apart([ours, *steady])}), file=sys.stderr)
        if options.no_fifo:
            return 0
        with mock.patch("joulelaw.bench.study.lineup.Board", first_come_first_served(options.seed)):
            naive = run_once(sweep, options.seed, None)
    text = markdown(ours, naive, steady, f"python benchmarks/packing.py --seed {options.seed}", where)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    print(
        json.dumps({"joulelaw": asdict(ours), "first_come_first_served": asdict(naive), "ms": apart([ours, *steady])})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
