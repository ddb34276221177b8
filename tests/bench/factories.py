"""A synthetic dataset for tests: plausible rows from a made-up law, on devices that do not exist."""

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.dataset.tables import TRIALS
from joulelaw.bench.plan.plan import HoldOut, Plan, PlannedTrial, Price, Split
from joulelaw.bench.spec.configuration import Configuration, Strategy, TrialSpec

GPU_MODEL = "Synthetic Device (1 core)"
DEVICES = f"""\
# Made up, for tests.
[[device]]
name = "{GPU_MODEL}"
peak_flop_per_s = {{ fp32 = 60e9, bf16 = 90e9 }}
bandwidth_bytes_per_s = 10e9
memory_bytes = 16000000000
link = "none, synthetic"
link_bytes_per_s = 2e9
source = "made up"
date = 2026-01-01
"""
SECOND = 1_000_000_000
BEGIN_NS = 1_000 * SECOND
# What each trial is expected to take.
PRICE = Price(flop_per_step=1e9, memory_bytes_per_device=1e8, step_s=0.1, trial_s=10.0, energy_j=50.0)
MODES: tuple[tuple[Strategy, int], ...] = (("single", 1), ("fsdp", 2), ("zero2", 2))


def configurations() -> Iterator[Configuration]:
    """24: eight cases, each on one device and under two strategies on two."""
    for (layers, width, length), (strategy, count) in itertools.product(
        itertools.product((2, 4), (128, 256), (64, 128)), MODES
    ):
        yield Configuration(
            gpu_model=GPU_MODEL,
            gpu_count=count,
            strategy=strategy,
            num_layers=layers,
            hidden_size=width,
            num_heads=width // 64,
            intermediate_size=4 * width,
            vocab_size=8192,
            sequence_length=length,
            micro_batch_size=8,
        )


def split_of(configuration: Configuration) -> Split:
    """Any rule will do."""
    return "hold_out" if configuration.case_id[0] in "02468ace" else "fit"


def trial_row(configuration: Configuration, *, number: int = 0, meter_kind: str = "measured") -> dict[str, Any]:
    """A row of TRIALS without its key. Duration and energy follow a simple law with a few percent of noise."""
    noise = random.Random(number)
    steps = 20
    tokens = configuration.micro_batch_size * configuration.sequence_length * steps
    work = tokens * configuration.num_layers * configuration.hidden_size**2 * 72
    overhead = {"single": 0.0, "fsdp": 0.004, "zero2": 0.006}[configuration.strategy]
    step_s = (work / steps / 4e10 + overhead + 0.01) * noise.uniform(0.96, 1.04)
    duration_s = step_s * steps
    energy_j = 9.5 * configuration.gpu_count * duration_s * noise.uniform(0.97, 1.03)
    estimated = meter_kind == "estimated"
    uuids = [f"CPU-synthetic-{core}" for core in range(configuration.gpu_count)]
    return {
        **dict.fromkeys(name for name in TRIALS.names if name not in ("trial_id", "attempt")),
        **configuration.to_dict(),
        "data": "synthetic",
        "skipped_steps": 0,
        "tokens": tokens * configuration.data_parallel,
        "padded_tokens": tokens * configuration.data_parallel,
        "micro_steps": steps,
        "duration_s": duration_s,
        "energy_j": energy_j,
        "boundary": "cpu_modelled" if estimated else "cpu_package",
        "meter": "cpu_time_estimate" if estimated else "rapl",
        "meter_kind": meter_kind,
        "energy_trace_j": energy_j * 1.004,
        "energy_disagreement": 0.004,
        "energy_stderr_j": energy_j * 0.01,
        "verdict": "valid",
        "reasons": [],
        "status": "done",
        "failure": "",
        "split": split_of(configuration),
        "configuration_id": configuration.configuration_id,
        "case_id": configuration.case_id,
        "repeat": 0,
        "seed": number,
        "num_parameters": 12 * configuration.num_layers * configuration.hidden_size**2,
        "warmup_steps": 3,
        "measured_steps": steps,
        "step_s_median": step_s,
        "window_begin_ns": BEGIN_NS,
        "window_end_ns": BEGIN_NS + int(duration_s * SECOND),
        "started_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
        "trial_s": duration_s + 2.0,
        "loss_first": 0.7,
        "loss_last": 0.4,
        "peak_memory_bytes": 400_000_000 + 1_000_000 * number,
        "base_memory_bytes": 340_000_000,
        "nodes": ["local"],
        "device_uuids": uuids,
        "threads_per_rank": 1,
        "backend": "gloo" if configuration.gpu_count > 1 else "",
        "shared_with": [],
        "power_limit_w": None,
    }


def step_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of every rank of this trial, warm-up included, ending with its window."""
    step_ns = int(row["step_s_median"] * SECOND)
    first_ns = row["window_begin_ns"] - row["warmup_steps"] * step_ns
    return [
        {
            "rank": rank,
            "step": step,
            "measured": step >= row["warmup_steps"],
            "begin_ns": first_ns + step * step_ns,
            "end_ns": first_ns + (step + 1) * step_ns,
            "loss": 0.7 * 0.98**step if rank == 0 else None,
        }
        for rank in range(row["gpu_count"])
        for step in range(row["warmup_steps"] + row["measured_steps"])
    ]


def power_rows(row: dict[str, Any], readings: int = 20) -> list[dict[str, Any]]:
    """Readings of each device over the window: a steady power whose counter gives the row's energy."""
    span_ns = row["window_end_ns"] - row["window_begin_ns"]
    power_w = row["energy_j"] / row["gpu_count"] / row["duration_s"]
    return [
        {
            "device_uuid": uuid,
            "meter": row["meter"],
            "time_ns": row["window_begin_ns"] + span_ns * k // (readings - 1),
            "power_w": power_w * (1 + 0.1 * (-1) ** k),
            "energy_counter_j": 5.0 + power_w * span_ns * k / (readings - 1) / SECOND,
            "temperature_c": 50.0,
            "clock_mhz": 1200.0,
            "throttle": 0,
            "foreign_processes": 0,
            "error": "",
        }
        for uuid in row["device_uuids"]
        for k in range(readings)
    ]


def new_dataset(folder: Path, **options: Any) -> Dataset:
    """An empty study."""
    environment = {
        "python": "3.11.0",
        "packages": {"torch": "0.0.synthetic"},
        "cpu": "Synthetic CPU",
        "git_commit": "0",
    }
    trials = [PlannedTrial(TrialSpec(each), split_of(each), False, PRICE) for each in configurations()]
    plan = Plan("synthetic", 0, tuple(trials), (), HoldOut("case", 0.5, 0, ""), {}).to_dict()
    sweep = "# A synthetic sweep, for tests\nname: synthetic\n"
    return Dataset.create(folder, sweep=sweep, plan=plan, environment=environment, devices=DEVICES, **options)


def synthetic_dataset(
    folder: Path, *, meter_kind: str = "measured", invalid: int = 1, failed: int = 1, short_texts: int = 0
) -> Path:
    """A finished study: 24 trials, of which the last are invalid and failed, the first had short texts, as asked."""
    everything = list(configurations())
    with new_dataset(folder) as dataset:
        for number, configuration in enumerate(everything):
            row = trial_row(configuration, number=number, meter_kind=meter_kind)
            row["padded_tokens"] -= number < short_texts
            tables = dataset.start_trial(f"{configuration.configuration_id}-r0")
            tables.add_steps(step_rows(row))
            tables.add_power("local", power_rows(row))
            left = len(everything) - number
            if left <= invalid:
                row |= {
                    "verdict": "invalid",
                    "reasons": ["too_few_readings"],
                    "energy_j": None,
                    "energy_stderr_j": None,
                }
            elif left <= invalid + failed:
                row |= failure()
            tables.finish(row)
    return folder


def failure() -> dict[str, Any]:
    """What changes in a row when the trial failed: nothing was measured."""
    nothing = ("duration_s", "energy_j", "energy_trace_j", "energy_disagreement", "energy_stderr_j", "step_s_median")
    counts = ("micro_steps", "measured_steps", "window_begin_ns", "window_end_ns", "loss_last", "peak_memory_bytes")
    return {
        **dict.fromkeys((*nothing, *counts)),
        "status": "failed",
        "failure": "rank 1 killed by signal 9",
        "verdict": "invalid",
        "reasons": ["rank_failed"],
    }
