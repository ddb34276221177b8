"""Every strategy trains the same numbers as one device on the same global batch."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.strategies import load_strategy
from joulelaw.bench.workloads import WORKLOADS
from tests.bench.training import SHARDED, alone, spread, trained
from tests.bench.trial_ranks import TINY
from tests.evidence import record

pytestmark = pytest.mark.xdist_group("ranks")

FAMILIES = sorted(WORKLOADS)
RANKS = 2
# In five steps Adam moves a weight by up to five learning rates; rounding steers it where the gradient is all but zero.
PARAMETER_ABS = 0.2 * TINY.learning_rate
LOSS_REL = 1e-4


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Memoized runs on one device."""

    @functools.cache
    def run(one: Configuration, scale_matters: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
        losses, kept = trained(tmp_path_factory.mktemp("alone") / "run", one, scale_matters)
        return losses, kept[0]["parameters"]

    return lambda configuration, scale_matters=False: run(alone(configuration), scale_matters)


def assert_equal_training(
    configuration: Configuration, run: tuple[list[float], list[Any]], one: tuple[list[float], dict[str, torch.Tensor]]
) -> None:
    """The losses of five steps and all parameters on every rank, within tolerance; keeps the distances as evidence."""
    (losses, kept), (expected_losses, expected) = run, one
    assert len(losses) == len(expected_losses) == 5
    assert all(rank["parameters"].keys() == expected.keys() for rank in kept)
    loss_rel = max(abs(loss / other - 1) for loss, other in zip(losses, expected_losses, strict=True))
    pairs = ((rank["parameters"][name], whole) for rank in kept for name, whole in expected.items())
    parameter_abs = max((parameter - whole).abs().max().item() for parameter, whole in pairs)
    assert loss_rel <= LOSS_REL
    assert parameter_abs <= PARAMETER_ABS
    record(
        "equality",
        strategy=configuration.strategy,
        model=configuration.model_family,
        head=configuration.head.replace("_", " "),
        ranks=configuration.gpu_count,
        grad_accumulation=configuration.grad_accumulation,
        activation_checkpointing=configuration.activation_checkpointing,
        loss_rel=loss_rel,
        parameter_abs=parameter_abs,
    )


@pytest.mark.parametrize("grad_accumulation", [1, 2])
@pytest.mark.parametrize("strategy", SHARDED)
@pytest.mark.parametrize("family", FAMILIES)
def test_ranks_equal_one_device_on_the_same_global_batch(
    family: str, strategy: str, grad_accumulation: int, reference: Any, tmp_path: Path
) -> None:
    configuration = spread(strategy, grad_accumulation, model_family=family)
    assert_equal_training(configuration, trained(tmp_path / "run", configuration), reference(configuration))


@pytest.mark.parametrize("strategy", SHARDED)
@pytest.mark.parametrize("family", FAMILIES)
def test_language_models_with_tied_weights_and_checkpointed_activations_do_so_too(
    family: str, strategy: str, reference: Any, tmp_path: Path
) -> None:
    configuration = spread(strategy, model_family=family, head="language_model", activation_checkpointing=True)
    expected = reference(replace(configuration, activation_checkpointing=False))
    assert_equal_training(configuration, trained(tmp_path / "run", configuration), expected)


@pytest.mark.parametrize(
    ("family", "strategy"), [*(("bert", name) for name in SHARDED), ("gpt2", "tp"), ("gpt2", "fsdp_tp")]
)
def test_gradients_are_averaged_over_ranks_and_micro_steps(
    family: str, strategy: str, reference: Any, tmp_path: Path
) -> None:
    """AdamW divides a gradient's scale out: a sum in place of a mean, or a clipped norm, would pass the test above."""
    configuration = spread(strategy, grad_accumulation=2, model_family=family)
    losses, kept = trained(tmp_path / "run", configuration, scale_matters=True)
    expected_losses, expected = reference(configuration, scale_matters=True)
    assert losses == pytest.approx(expected_losses, rel=LOSS_REL)
    assert losses[-1] != pytest.approx(losses[0], rel=1e-3), "the steps moved nothing"
    for name, parameter in kept[1]["parameters"].items():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("strategy", "family"), [("ddp", "bert"), ("fsdp", "bert"), ("zero2", "bert"), ("zero3", "gpt2")]
)
def test_bf16_follows_fp32_on_two_ranks(strategy: str, family: str, reference: Any, tmp_path: Path) -> None:
    in_fp32, _ = reference(spread(strategy, model_family=family))
    configuration = spread(strategy, precision="bf16", model_family=family)
    losses, _ = trained(tmp_path / "run", configuration)
    in_bf16, _ = reference(configuration)
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
    assert losses == pytest.approx(reference(configuration)[0], rel=LOSS_REL)


def test_an_unknown_strategy_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="unknown strategy 'fdsp'; one of single, ddp, fsdp"):
        load_strategy("fdsp")
