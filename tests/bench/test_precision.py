"""fp16 trains what fp32 trains, and a step that overflows on one rank is left out on all of them."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Configuration, TrialSpec, Window
from joulelaw.bench.strategies import STRATEGIES
from joulelaw.bench.strategies.loss_scale import LossScale
from joulelaw.bench.training.precision import autocast, check_precision
from tests.bench.trial_ranks import TINY, run_ranks, run_trial

pytestmark = pytest.mark.xdist_group("ranks")

# Steps 0 and 1 warm up, steps 2 to 4 are measured.
FIVE_STEPS = Window(warmup_steps=2, min_steps=3)
RANKS = {"single": 1, "fsdp_tp": 4}
TENSOR_PARALLEL = {"tp": 2, "fsdp_tp": 2}
ZERO = [name for name in STRATEGIES if name.startswith("zero")]
TORCH = [name for name in STRATEGIES if name not in ZERO]
# Relative difference of a loss: fp16 has 11 significant bits, and the strategies that shard compute the loss in it too.
FP16_TOLERANCE = 3e-3


def on_ranks(strategy: str, precision: str = "fp16") -> Configuration:
    """A configuration on the fewest ranks where every kind of its communication happens."""
    ranks, shared = RANKS.get(strategy, 2), TENSOR_PARALLEL.get(strategy, 1)
    return replace(TINY, strategy=strategy, gpu_count=ranks, tensor_parallel=shared, precision=precision)


def trained(folder: Path, configuration: Configuration) -> tuple[list[float], int]:
    """The global batch's loss in five steps, and the steps left out."""
    folder.mkdir()
    outcomes = run_trial(folder, TrialSpec(configuration, seed=7, window=FIVE_STEPS))
    assert [outcome.exit_status for outcome in outcomes] == [0] * len(outcomes), outcomes
    losses = [sum(step) / len(step) for step in zip(*(outcome.losses() for outcome in outcomes), strict=True)]
    return losses, outcomes[0].one("done")["skipped_steps"]


@pytest.fixture(scope="module")
def in_fp32(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Memoized losses of the same global batch on one device."""

    @functools.cache
    def losses(configuration: Configuration) -> list[float]:
        return trained(tmp_path_factory.mktemp("alone") / "run", configuration)[0]

    def of(configuration: Configuration) -> list[float]:
        sequences = configuration.data_parallel * configuration.micro_batch_size
        return losses(replace(configuration.single_device(), micro_batch_size=sequences, precision="fp32"))

    return of


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fp16_follows_fp32_on_one_device(strategy: str, in_fp32: Any, tmp_path: Path) -> None:
    configuration = on_ranks(strategy)
    expected = in_fp32(configuration)
    losses, skipped = trained(tmp_path / "run", configuration)
    worst = max(abs(loss / other - 1) for loss, other in zip(losses, expected, strict=True))
    assert skipped == 0
    assert len(losses) == 5
    assert 0 < worst < FP16_TOLERANCE, "0: it was computed in another precision"


def overflowed(folder: Path, strategy: str, kind: str, steps: list[int], agree: bool = True) -> list[dict[str, Any]]:
    """What each rank noted of a trial of which these steps overflow on the last rank."""
    spec = TrialSpec(on_ranks(strategy), seed=7, window=FIVE_STEPS)
    payload = {"trial": spec.to_dict(), "kind": kind, "steps": steps, "agree": agree}
    entry = "tests.bench.overflow_ranks:train_through_overflow"
    outcomes = run_ranks(folder, entry, payload, spec.configuration.gpu_count)
    assert [outcome.exit_status for outcome in outcomes] == [0] * len(outcomes), outcomes
    return [outcome.one("overflowed") for outcome in outcomes]


@pytest.mark.parametrize(
    ("strategy", "kind"), [*((name, "loss") for name in STRATEGIES), *((name, "gradient") for name in TORCH)]
)
def test_an_overflow_on_one_rank_leaves_the_step_out_on_all(strategy: str, kind: str, tmp_path: Path) -> None:
    ranks = overflowed(tmp_path, strategy, kind, [2])
    for rank in ranks:
        changed = [before != after for before, after in zip(rank["digests"], rank["digests"][1:], strict=False)]
        assert changed == [True, True, False, True, True]
        assert rank["digests"] == ranks[0]["digests"], "the ranks' parameters differ"
        assert rank["skipped"] == 1


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "tp"])
def test_ranks_that_do_not_agree_on_overflow_drift_apart(strategy: str, tmp_path: Path) -> None:
    """The test above would see it if the ranks did not ask each other."""
    first, *_, last = overflowed(tmp_path, strategy, "gradient", [2], agree=False)
    assert (first["skipped"], last["skipped"]) == (0, 1)
    assert first["digests"][3] != first["digests"][2]


@pytest.mark.parametrize("strategy", ["ddp", "zero2"])
def test_a_window_counts_the_steps_left_out_in_it(strategy: str, tmp_path: Path) -> None:
    for rank in overflowed(tmp_path, strategy, "loss", [1, 3]):
        assert (rank["skipped"], rank["measured_skipped"]) == (2, 1)


def test_gradients_too_small_for_fp16_arrive() -> None:
    """A gradient of 1e-9, where fp16's smallest number is 6e-8."""
    cpu, inputs = torch.device("cpu"), torch.arange(1.0, 5.0)[None]
    layer = torch.nn.Linear(4, 1)
    before = layer.weight.detach().clone()

    def loss() -> torch.Tensor:
        with autocast("fp16", cpu):
            outputs: torch.Tensor = layer(inputs)
        return 1e-9 * outputs.mean().float()

    (unscaled,) = torch.autograd.grad(loss(), layer.weight)
    assert not unscaled.any()
    scale = LossScale(replace(TINY, precision="fp16"), cpu)
    scale.backward(loss())
    scale.step(torch.optim.SGD(layer.parameters(), lr=1e6))
    torch.testing.assert_close(before - layer.weight, 1e-3 * inputs, rtol=1e-2, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_other_precisions_neither_scale_nor_ask(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joulelaw.bench.strategies.loss_scale.agree", None)  # called, it would raise
    layer = torch.nn.Linear(2, 1)
    scale = LossScale(replace(TINY, precision=precision), torch.device("cpu"))
    scale.backward(layer(torch.ones(1, 2)).sum())
    assert layer.bias.grad == 1
    scale.step(torch.optim.SGD(layer.parameters(), lr=1.0))
    assert scale.skipped_steps() == 0


def test_tf32_is_for_cuda_only() -> None:
    check_precision("tf32", "cuda")
    with pytest.raises(InputError, match="tf32 cannot be trained on a cpu device; one of fp32, fp16, bf16"):
        check_precision("tf32", "cpu")
