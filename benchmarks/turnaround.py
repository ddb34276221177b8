"""Twelve trials through `joulelaw run`, beside the loop a user would write: one `torchrun` a trial. Then step times.

    python benchmarks/turnaround.py [--pairs 24] [--quick]

First the whole: 2 shapes x {single, fsdp x2, tp x2} x 2 repeats, 3 warm-up and 20 measured steps each. Ours starts
Ray, forks ranks, samples power during the steps and writes a dataset; theirs does none of it, and that is the point.
Then pairs, ours and theirs in turn, each with fresh interpreters: the ratio of their median step times. One thread a
rank on both sides; in the pairs each rank of both is pinned to its core, in the whole theirs is left to the kernel, as
a user would leave it. Prints Markdown and, last, one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from measuring import ROOT, machine, table

WARMUP, STEPS = 3, 20
SHAPES = (
    {"num_layers": 4, "hidden_size": 128, "sequence_length": 128, "micro_batch_size": 4},
    {"num_layers": 2, "hidden_size": 256, "sequence_length": 64, "micro_batch_size": 4},
)
RANKS = {"single": 1, "fsdp": 2, "tp": 2}
VOCAB_SIZE = 8192
SCRIPT = Path(__file__).with_name("torchrun_trial.py")


@dataclass(frozen=True)
class Trial:
    """One trial: its strategy, its shape, and how long it took outside and inside its steps."""

    strategy: str
    shape: int
    whole_s: float
    steps_s: float  # all steps, warm-up included
    step_s: float  # median of the measured


def sweep(strategies: Sequence[str], shapes: Sequence[int], repeats: int) -> str:
    """The sweep file. JSON is YAML."""
    grids = [
        {**SHAPES[shape], "strategy": strategy, "gpu_count": RANKS[strategy]}
        for shape, strategy in product(shapes, strategies)
    ]
    return json.dumps(
        {
            "schema": 1,
            "name": "turnaround",
            "seed": 7,
            "defaults": {"model_family": "bert", "vocab_size": VOCAB_SIZE, "precision": "fp32"},
            "grids": grids,
            "repeats": repeats,
            "window": {"warmup_steps": WARMUP, "min_steps": STEPS, "min_s": 0, "max_s": 600, "tolerance": 0},
            "hold_out": {"by": "case", "fraction": 0},
            "metering": {"meter": "auto", "rate_hz": 20, "cpu_w_per_core": 10.0},
            "devices": {"cores_per_device": 1},
        }
    )


def ours(home: Path, strategies: Sequence[str], shapes: Sequence[int], repeats: int) -> tuple[float, list[Trial]]:
    """`joulelaw run`: its time, and its trials (with the single-device baselines that it adds)."""
    home.mkdir()
    (home / "sweep.yaml").write_text(sweep(strategies, shapes, repeats))
    taken_s = run(
        [sys.executable, "-m", "joulelaw.bench", "run", "sweep.yaml", "--into", "out"], home, {"PYTHONPATH": str(ROOT)}
    )
    return taken_s, trials_in(home / "out")


def trials_in(folder: Path) -> list[Trial]:
    from joulelaw.bench.dataset.measurements import read_steps, read_trials

    found = []
    for row in read_trials(folder).to_dict("records"):
        if row["status"] != "done":
            raise SystemExit(f"trial {row['trial_id']} failed: {row['failure']}")
        steps = read_steps(folder, row["trial_id"])
        steps = steps[steps["rank"] == 0]
        seconds = (steps["end_ns"] - steps["begin_ns"]) / 1e9
        keys = ("num_layers", "hidden_size", "sequence_length", "micro_batch_size")
        shape = SHAPES.index({key: row[key] for key in keys})
        step_s = float(seconds[steps["measured"]].median())
        found.append(Trial(row["strategy"], shape, row["trial_s"], float(seconds.sum()), step_s))
    return found


def theirs(home: Path, strategy: str, shape: int, pin: bool) -> Trial:
    """One `torchrun`. Without OMP_NUM_THREADS a single rank would take all cores, and two one each."""
    home.mkdir(exist_ok=True)
    sizes = [f"--{name.replace('_', '-')}={size}" for name, size in SHAPES[shape].items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS[strategy])]
    command += [str(SCRIPT), "--strategy", strategy, *sizes, "--vocab-size", str(VOCAB_SIZE), "--out", "steps.json"]
    command += ["--warmup", str(WARMUP), "--steps", str(STEPS), *(["--pin"] if pin else [])]
    taken_s = run(command, home, {"OMP_NUM_THREADS": "1"})
    said = json.loads((home / "steps.json").read_text())
    return Trial(
        strategy, shape, taken_s, sum(said["warmup_s"]) + sum(said["step_s"]), statistics.median(said["step_s"])
    )


def run(command: Sequence[str], folder: Path, more: dict[str, str]) -> float:
    """Seconds that a command took, from the shell's point of view."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "OMP_NUM_THREADS")}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env={**environment, **more}, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):  # 3: joules that nobody could measure; times are not touched by it
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return time.perf_counter() - began


def whole(home: Path, shapes: Sequence[int], repeats: int) -> dict[str, Any]:
    """All trials, ours and theirs."""
    ours_s, our_trials = ours(home / "ours", list(RANKS), shapes, repeats)
    began = time.perf_counter()
    their_trials = [theirs(home / "theirs", strategy, shape, pin=False)
                    for _, shape, strategy in product(range(repeats), shapes, RANKS)]  # fmt: skip
    theirs_s = time.perf_counter() - began
    assert len(our_trials) == len(their_trials)
    return {
        "trials": len(our_trials),
        "ours_s": ours_s,
        "theirs_s": theirs_s,
        "ratio": theirs_s / ours_s,
        "ours_steps_s": sum(trial.steps_s for trial in our_trials),
        "theirs_steps_s": sum(trial.steps_s for trial in their_trials),
        "ours_outside_steps_s": statistics.median(trial.whole_s - trial.steps_s for trial in our_trials),
        "theirs_outside_steps_s": statistics.median(trial.whole_s - trial.steps_s for trial in their_trials),
    }


def pairs(home: Path, count: int) -> list[dict[str, Any]]:
    """Step times of ours and theirs by turns, over strategies and shapes; who goes first changes from pair to pair."""
    found = []
    for number, (shape, strategy) in zip(range(count), cycle_of_cases(count), strict=True):
        folder = home / f"pair-{number}"
        folder.mkdir()
        sides = {"ours": 0.0, "theirs": 0.0}
        for side in sorted(sides, reverse=bool(number // len(RANKS) % 2)):
            if side == "theirs":
                sides[side] = theirs(folder / side, strategy, shape, pin=True).step_s
            else:
                _, trials = ours(folder / side, [strategy], [shape], repeats=1)
                sides[side] = next(trial.step_s for trial in trials if trial.strategy == strategy)
        found.append({"strategy": strategy, "shape": shape, **sides, "ratio": sides["ours"] / sides["theirs"]})
    return found


def cycle_of_cases(count: int) -> list[tuple[int, str]]:
    """Strategies one after the other, then the next shape."""
    cases = list(product(range(len(SHAPES)), RANKS))
    return [cases[number % len(cases)] for number in range(count)]


def median_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The median, and order statistics between which the true one lies with at least 95 % confidence.

    The k-th smallest of n lies above the true median with the chance that fewer than k of n fair coins show heads.
    """
    from scipy.stats import binom

    ordered, count = sorted(values), len(values)
    below = int(binom.ppf(0.025, count, 0.5))
    if below < 1:
        return statistics.median(ordered), None, None  # too few for an interval
    return statistics.median(ordered), ordered[below - 1], ordered[count - below]


def show(said: str, total: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    print(f"{said}\n")
    rows = [
        [
            name,
            f"{total[f'{side}_s']:.1f}",
            f"{total[f'{side}_steps_s']:.1f}",
            f"{total[f'{side}_outside_steps_s']:.1f}",
        ]
        for side, name in (("ours", "`joulelaw run`"), ("theirs", "one `torchrun` a trial"))
    ]
    header = [
        f"{total['trials']} trials",
        "total, s",
        "in steps, all trials, s",
        "outside its steps, a trial (median), s",
    ]
    print(table(header, rows))
    print(f"\nTheirs takes {total['ratio']:.1f} times as long.\n")
    median, low, high = median_interval([pair["ratio"] for pair in found])
    rows = [
        [f"{number}: {pair['strategy']} x{RANKS[pair['strategy']]}, shape {pair['shape']}",
         f"{1e3 * pair['ours']:.1f}", f"{1e3 * pair['theirs']:.1f}", f"{pair['ratio']:.3f}"]
        for number, pair in enumerate(found, start=1)
    ]  # fmt: skip
    print(table(["pair", "ours, ms a step", "theirs, ms a step", "ours / theirs"], rows))
    interval = f"95 % interval {low:.3f} to {high:.3f}" if low and high else "too few pairs for an interval"
    print(f"\nMedian ratio {median:.3f}, {interval} ({len(found)} pairs).\n")
    return {"whole": total, "pairs": found, "step_ratio": {"median": median, "low": low, "high": high}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--quick", action="store_true", help="one shape, one repeat, three pairs")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    said = machine()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        total = whole(home, [0] if options.quick else range(len(SHAPES)), 1 if options.quick else 2)
        found = pairs(home, 3 if options.quick else options.pairs)
    print(json.dumps(show(said, total, found)))


if __name__ == "__main__":
    main()
