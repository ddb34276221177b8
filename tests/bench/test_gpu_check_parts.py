"""The parts of the check on a GPU that can be wrong without one: what is compared with what, and which way round."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from joulelaw.bench.gpu_check import equal, loads, steps
from joulelaw.bench.gpu_check.meter_figures import Stretch, figures_of, update_s
from joulelaw.bench.gpu_check.parts import parts
from joulelaw.bench.gpu_check.training import Ours, Plain
from joulelaw.bench.spec.configuration import Configuration, Precision
from joulelaw.cluster.power.meter import Reading

SECOND = 1_000_000_000
MODEL = {"num_layers": 2, "hidden_size": 64, "micro_batch_size": 1, "sequence_length": 8, "precision": "fp32"}


class Silent:
    """A Teller that nobody hears."""

    def __init__(self) -> None:
        self.sampled: list[bool] = []

    @contextmanager
    def window(self, name: str) -> Iterator[None]:
        yield

    def sampling(self, on: bool) -> None:
        self.sampled.append(on)


class Sleeping:
    """A model whose steps take a stated time."""

    step_s: ClassVar[float] = 0.0
    num_parameters = 1
    losses: ClassVar[list[float]] = [0.7]
    loss = 0.7

    def __init__(self, asked: Configuration, device: torch.device) -> None:
        self.asked = asked

    def run(self, count: int) -> None:
        time.sleep(count * self.step_s)


class Slow(Sleeping):
    step_s = 0.008


class Fast(Sleeping):
    step_s = 0.002


@pytest.mark.parametrize(("ours", "plain", "ratio"), [(Fast, Slow, 4.0), (Slow, Fast, 0.25)])
def test_the_ratio_is_above_one_where_we_are_faster(
    ours: type, plain: type, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "Ours", ours)
    monkeypatch.setattr(steps, "Plain", plain)
    monkeypatch.setattr(steps, "claim_device", lambda context: torch.device("cpu"))
    told: Any = steps.beside_plain(None, Silent(), MODEL, rounds=3, seconds=0.1)  # type: ignore[arg-type]
    assert told["ratio"] == pytest.approx(ratio, rel=0.3)
    assert told["step_s"]["ours"] == pytest.approx(ours.step_s, rel=0.3)  # type: ignore[attr-defined]


def test_sampling_is_off_and_on_in_turns_and_its_cost_is_on_over_off(monkeypatch: pytest.MonkeyPatch) -> None:
    teller = Silent()

    class Sampled(Sleeping):
        def run(self, count: int) -> None:
            time.sleep(count * (0.006 if teller.sampled and teller.sampled[-1] else 0.003))

    monkeypatch.setattr(loads, "Ours", Sampled)
    monkeypatch.setattr(loads, "claim_device", lambda context: torch.device("cpu"))
    told = loads.overhead(None, teller, MODEL, pairs=4, seconds=0.05)  # type: ignore[arg-type]
    assert told["ratio"] == pytest.approx(2.0, rel=0.25)
    assert teller.sampled == [False, True, True, False, False, True, True, False, True]


@pytest.mark.parametrize(("off", "expected"), [(0.0, True), (0.9e-5, True), (2e-5, False), (float("nan"), False)])
def test_fp32_has_to_be_near_the_cpu(off: float, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And 16 bits as near as the CPU's own 16 bits are, here 1e-2, three times over."""

    def losses(asked: Configuration, device: torch.device) -> list[float]:
        if device.type == "meta":  # the device that is checked
            return [0.7, 0.6 * (1 + off)]
        return [0.7, 0.6 * (1.01 if asked.precision == "bf16" else 1.0)]

    monkeypatch.setattr(equal, "losses", losses)
    monkeypatch.setattr(equal, "claim_device", lambda context: torch.device("meta"))
    for precision, near in (("fp32", expected), ("tf32", off == off), ("bf16", off == off)):
        told = equal.compare(None, None, "bert", precision, {"num_layers": 2, "hidden_size": 64}, False)  # type: ignore[arg-type]
        assert told["equal"] is near
        assert told["attention"].keys() == {"sdpa", "eager"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_plain_pytorch_trains_the_same_weights_on_the_same_data(precision: Precision) -> None:
    asked = replace(steps.configuration(MODEL, vocab_size=100, learning_rate=1e-3), precision=precision)
    ours, plain = (arm(asked, torch.device("cpu")) for arm in (Ours, Plain))
    found = []
    for _ in range(3):
        ours.run(1)
        plain.run(1)
        found.append((ours.losses[-1], plain.loss))
    assert len(set(found)) == 3, "it trains"
    assert [one for one, _ in found] == pytest.approx([other for _, other in found], rel=1e-6)


def test_another_training_is_not_equal() -> None:
    asked = steps.configuration({**MODEL, "learning_rate": 1e-3}, vocab_size=100)
    cpu = torch.device("cpu")
    same, other = (
        equal.losses(asked, cpu),
        equal.losses(steps.configuration({**MODEL, "learning_rate": 2e-3}, vocab_size=100), cpu),
    )
    assert equal.difference(same, equal.losses(asked, cpu)) == 0
    assert equal.difference(other, same) > equal.FLOOR


def readings(times_s: "np.ndarray[Any, Any]", tick_s: float, power_w: float) -> list[Reading]:
    """Of a device at constant power whose counter moves on every so often."""
    return [
        Reading("GPU-1", int(t * SECOND), power_w=power_w, energy_counter_j=power_w * tick_s * np.floor(t / tick_s))
        for t in times_s
    ]


@pytest.mark.parametrize("tick_s", [0.02, 0.1])
def test_ticks_are_told_from_close_readings_only(tick_s: float) -> None:
    closely, seldom = np.arange(0, 2, 0.00107), np.arange(0, 20, 0.0503)
    for times_s, expected in ((closely, tick_s), (seldom, None)):
        found = figures_of([], readings(times_s, tick_s, 300.0), "nvml", "GPU-1")["seen"]["counter_tick_s"]
        assert found == (None if expected is None else pytest.approx(expected, abs=0.0015))


def test_a_gap_between_two_ticks_is_not_taken_for_one() -> None:
    """Close readings for a second, none for a second, and close ones again."""
    times_s = np.concatenate([np.arange(0, 1, 0.001), np.arange(2, 3, 0.001)])
    changes = np.floor(times_s / 0.05)
    assert update_s((times_s * SECOND).astype(np.int64), changes) == pytest.approx(0.05, abs=0.0015)
    assert update_s((times_s * SECOND).astype(np.int64), np.zeros_like(times_s)) is None


def test_joules_of_a_stretch_are_those_of_the_device_alone() -> None:
    mine = readings(np.arange(0, 12, 0.05), 0.1, 250.0)
    other = [Reading("GPU-2", each.time_ns, power_w=9e9, energy_counter_j=9e9 * each.time_ns) for each in mine]
    found = figures_of([Stretch("load", SECOND, 11 * SECOND)], [*mine, *other], "nvml", "GPU-1")
    load = found["stretches"]["load"]
    assert load["energy_j"] == pytest.approx(2500.0, rel=0.01)
    assert load["power_w"] == pytest.approx(250.0, rel=0.01)
    assert load["source"] == "counter"
    assert abs(load["disagreement"]) < 0.01


def test_a_gpu_gets_every_step_and_the_shapes_that_are_asked_for() -> None:
    asked = parts(("fp32", "tf32", "fp16", "bf16"), dry=False)
    assert {part.step for part in asked} == {"equal", "meter", "peaks", "steps"}
    assert len({(part.step, part.name) for part in asked}) == len(asked)
    compared = {(each.arguments["family"], each.arguments["precision"]) for each in asked if each.step == "equal"}
    assert compared == {(family, one) for family in ("bert", "gpt2") for one in ("fp32", "tf32", "fp16", "bf16")}
    assert any(part.arguments["compiled"] for part in asked if part.step == "equal")
    cases = [part.arguments["model"] for part in asked if part.step == "steps"]
    shapes = [(case["num_layers"], case["hidden_size"], case["sequence_length"]) for case in cases]
    assert shapes == [(12, 768, 128), (12, 768, 512), (24, 1024, 128), (24, 1024, 512)]
    assert {(case["micro_batch_size"], case["precision"]) for case in cases} == {(32, "bf16")}
    assert sum(part.seconds for part in asked) < 9 * 60, "one slice"
