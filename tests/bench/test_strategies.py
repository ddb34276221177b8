"""Every strategy trains the same numbers as one device on the same global batch."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from joulelaw import InputError
from joulelaw.bench.configuration import Configuration, TrialSpec, Window
from joulelaw.bench.strategies import STRATEGIES, load_strategy
from joulelaw.bench.workloads import load_workload
from tests.bench.trial_ranks import TINY, run_ranks

pytestmark = pytest.mark.xdist_group("ranks")

FIVE_STEPS = Window(warmup_steps=2, min_steps=3)
RANKS = 2
WIDE = {"hidden_size": 384, "intermediate_size": 384}
SHARDED = [name for name, entry in STRATEGIES.items() if entry.needs_group]


def spread(strategy: str, grad_accumulation: int = 1, **changes: Any) -> Configuration:
    """A configuration on two ranks."""
    return replace(TINY, strategy=strategy, gpu_count=RANKS, grad_accumulation=grad_accumulation, **changes)


def alone(configuration: Configuration) -> Configuration:
    """The same global batch on one device."""
    sequences = configuration.gpu_count * configuration.micro_batch_size
    return replace(configuration.single_device(), micro_batch_size=sequences)


def trained(folder: Path, configuration: Configuration, scale_matters: bool = False) -> tuple[list[float], list[Any]]:
    """The global batch's loss in five steps, and what each rank kept."""
    folder.mkdir()
    spec = TrialSpec(configuration, seed=7, window=FIVE_STEPS)
    payload = {"trial": spec.to_dict(), "folder": str(folder), "scale_matters": scale_matters}
    outcomes = run_ranks(folder, "tests.bench.trial_ranks:train_and_keep", payload, configuration.gpu_count)
    assert [outcome.exit_status for outcome in outcomes] == [0] * len(outcomes), outcomes
    losses = [sum(step) / len(step) for step in zip(*(outcome.losses() for outcome in outcomes), strict=True)]
    return losses, [torch.load(folder / f"rank{rank}.pt") for rank in range(len(outcomes))]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Memoized runs on one device."""

    @functools.cache
    def run(one: Configuration, scale_matters: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
        losses, kept = trained(tmp_path_factory.mktemp("alone") / "run", one, scale_matters)
        return losses, kept[0]["parameters"]

    return lambda configuration, scale_matters=False: run(alone(configuration), scale_matters)


@pytest.mark.parametrize("grad_accumulation", [1, 2])
@pytest.mark.parametrize("strategy", SHARDED)
def test_two_ranks_equal_one_device_on_the_same_global_batch(
    strategy: str, grad_accumulation: int, reference: Any, tmp_path: Path
) -> None:
    configuration = spread(strategy, grad_accumulation)
    losses, kept = trained(tmp_path / "run", configuration)
    expected_losses, expected = reference(configuration)
    assert len(losses) == 5
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    for rank in kept:
        assert rank["parameters"].keys() == expected.keys()
        for name, parameter in rank["parameters"].items():
            # Adam moves a weight by about the learning rate in each step: this is a hundredth of the way.
            torch.testing.assert_close(parameter, expected[name], rtol=0, atol=0.05 * TINY.learning_rate, msg=name)


@pytest.mark.parametrize("strategy", SHARDED)
def test_gradients_are_averaged_over_ranks_and_micro_steps(strategy: str, reference: Any, tmp_path: Path) -> None:
    """AdamW divides a gradient's scale out: a sum in place of a mean, or a clipped norm, would pass the test above."""
    configuration = spread(strategy, grad_accumulation=2)
    losses, kept = trained(tmp_path / "run", configuration, scale_matters=True)
    expected_losses, expected = reference(configuration, scale_matters=True)
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    assert losses[-1] != pytest.approx(losses[0], rel=1e-3), "the steps moved nothing"
    for name, parameter in kept[1]["parameters"].items():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("strategy", "precision"), [*((name, "fp32") for name in SHARDED), ("fsdp", "bf16"), ("zero2", "bf16")]
)
def test_a_rank_sends_the_bytes_that_its_strategy_states(strategy: str, precision: str, tmp_path: Path) -> None:
    """Wide enough for ZeRO-3 to shard the matrices. The formulas leave out norms and counts, a few bytes each."""
    k, q = 2, (RANKS - 1) / RANKS
    shape = spread(strategy, grad_accumulation=k, precision=precision, micro_batch_size=1, **WIDE)
    psi, small, root = parameter_counts(shape)
    low = 2 if precision == "bf16" else 4
    stated = {
        "ddp": 2 * q * 4 * psi,
        "fsdp": q * k * ((2 * low + 4) * psi - low * root),
        "zero1": q * (2 * low + low) * psi,
        "zero2": q * (2 * k * low + low) * psi,
        "zero3": q * (k * 2 * low * psi - (k - 1) * low * small),
    }
    payload = {"trial": TrialSpec(shape).to_dict()}
    outcomes = run_ranks(tmp_path, "tests.bench.trial_ranks:count_bytes", payload, RANKS)
    assert outcomes[0].one("sent")["bytes"] == pytest.approx(stated[strategy], rel=1e-3)


def parameter_counts(configuration: Configuration) -> tuple[int, int, int]:
    """All parameters, those of tensors under 1e5 elements, and those outside the blocks."""
    training = load_workload("bert").build(configuration, torch.device("cpu"), Path())
    sizes = [parameter.numel() for parameter in training.module.parameters()]
    in_blocks = sum(parameter.numel() for block in training.blocks for parameter in block.parameters())
    return sum(sizes), sum(size for size in sizes if size < 1e5), sum(sizes) - in_blocks


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "zero2", "zero3"])
def test_bf16_follows_fp32_on_two_ranks(strategy: str, reference: Any, tmp_path: Path) -> None:
    losses, _ = trained(tmp_path / "run", spread(strategy, precision="bf16"))
    in_fp32, _ = reference(spread(strategy))
    in_bf16, _ = reference(spread(strategy, precision="bf16"))
    assert losses == pytest.approx(in_fp32, rel=0.02)
    assert in_bf16 == pytest.approx(in_fp32, rel=0.02)
    assert losses != in_fp32, "it was computed in another precision"
    assert in_bf16 != in_fp32, "it was computed in another precision"


def test_data_parallel_ranks_draw_different_dropout_masks_over_equal_parameters(tmp_path: Path) -> None:
    _, kept = trained(tmp_path / "run", spread("fsdp", dropout=0.1))
    assert not torch.equal(kept[0]["draw"], kept[1]["draw"])
    for name, parameter in kept[0]["parameters"].items():
        torch.testing.assert_close(parameter, kept[1]["parameters"][name], rtol=0, atol=0)


@pytest.mark.parametrize("strategy", SHARDED)
def test_a_sharded_strategy_runs_on_one_rank(strategy: str, reference: Any, tmp_path: Path) -> None:
    configuration = replace(TINY, strategy=strategy)
    losses, _ = trained(tmp_path / "run", configuration)
    assert losses == pytest.approx(reference(configuration)[0], rel=1e-4)


def test_an_unknown_strategy_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="unknown strategy 'fdsp'; one of single, ddp, fsdp"):
        load_strategy("fdsp")
