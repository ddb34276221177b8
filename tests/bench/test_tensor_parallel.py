"""Tensor-parallel ranks share blocks: what they hold in common stays equal, and they talk in the types stated."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from joulelaw import InputError
from joulelaw.bench.spec.configuration import TrialSpec
from joulelaw.bench.strategies import Setup, load_strategy
from joulelaw.bench.strategies.block_split import interleaved
from joulelaw.bench.training.rank import form_group, make_epoch, prepare
from joulelaw.bench.training.rank_state import claim_device
from joulelaw.bench.workloads import WORKLOADS, load_workload
from joulelaw.cluster.ranks.rank import RankContext
from tests.bench.training import TENSOR_PARALLEL, spread, trained
from tests.bench.trial_ranks import run_ranks

pytestmark = pytest.mark.xdist_group("ranks")

FAMILIES = sorted(WORKLOADS)


@pytest.mark.parametrize("strategy", TENSOR_PARALLEL)
@pytest.mark.parametrize("family", FAMILIES)
def test_with_dropout_ranks_keep_equal_what_they_hold_in_common(family: str, strategy: str, tmp_path: Path) -> None:
    configuration = spread(strategy, grad_accumulation=2, model_family=family, dropout=0.1)
    _, kept = trained(tmp_path / "run", configuration)  # it also compares the losses of tensor-parallel ranks
    degree = configuration.tensor_parallel
    for rank, own in enumerate(kept):
        first = kept[rank // degree * degree]
        assert torch.equal(own["draw"], first["draw"]), "they began with other random numbers"
        assert torch.equal(own["draw_after"], first["draw_after"]), "one drew more often than the other"
        for name, parameter in own["parameters"].items():
            assert torch.equal(parameter, kept[0]["parameters"][name]), name
    draws = {tuple(own["draw_after"].tolist()) for own in kept}
    assert len(draws) == configuration.data_parallel, "data-parallel ranks draw their own masks"


def test_dropout_changes_what_is_trained(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    dropping, _ = trained(tmp_path / "dropping", spread("tp", dropout=0.1))
    without, _ = trained(tmp_path / "without", spread("tp"))
    assert dropping != without


def test_autocast_all_reduces_at_16_bits_forward_and_in_fp32_backward(tmp_path: Path) -> None:
    """Of GPT-2, whose bytes, as `test_collectives` counts them, would be the same the other way round."""
    shape = spread("tp", model_family="gpt2", precision="bf16", num_layers=3)
    entry = "tests.bench.test_tensor_parallel:count_all_reduces"
    outcome = run_ranks(tmp_path, entry, {"trial": TrialSpec(shape).to_dict()}, shape.gpu_count)[0]
    each_way = 2 * shape.num_layers
    expected = {str(torch.bfloat16): each_way, str(torch.float32): each_way}
    assert outcome.one("counted")["all_reduces"] == expected


def count_all_reduces(payload: dict[str, Any], context: RankContext) -> None:
    """An entry: emits how many activations were all-reduced in a micro-step, by their type."""
    spec = TrialSpec.from_dict(payload["trial"])
    device = claim_device(context)
    group = form_group(spec, context, device)
    stepper, _ = prepare(spec, group, device, Path())
    (batch,) = make_epoch(spec, group, device, Path()).step(0)
    shape = (*batch["input_ids"].shape, spec.configuration.hidden_size)
    found: Counter[str] = Counter()

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "all_reduce" in func.name() or "allreduce" in func.name():
                (tensor,) = (leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor))
                assert tensor.shape == shape
                found[str(tensor.dtype)] += 1
            return func(*args, **(kwargs or {}))

    with Recorder():
        stepper.micro_step(batch, last=True)
    context.emit({"kind": "counted", "all_reduces": dict(found)})
    group.close()


@pytest.mark.parametrize(("strategy", "family"), [("tp", "bert"), ("fsdp_tp", "gpt2")])
def test_bf16_follows_fp32(strategy: str, family: str, tmp_path: Path) -> None:
    """fp16 does in `test_precision`."""
    in_fp32, _ = trained(tmp_path / "fp32", spread(strategy, model_family=family))
    losses, _ = trained(tmp_path / "run", spread(strategy, precision="bf16", model_family=family))
    assert losses == pytest.approx(in_fp32, rel=0.02)
    assert losses != in_fp32, "it was computed in another precision"


@pytest.mark.parametrize("strategy", TENSOR_PARALLEL)
@pytest.mark.parametrize(
    ("axis", "changes"), [("num_heads", {"num_heads": 1}), ("intermediate_size", {"intermediate_size": 63})]
)
def test_a_degree_that_does_not_divide_a_block_is_refused_before_ranks_talk(
    strategy: str, axis: str, changes: dict[str, Any]
) -> None:
    configuration = replace(spread(strategy), **changes)
    device = torch.device("cpu")
    training = load_workload("bert").build(configuration, device, Path())
    with pytest.raises(InputError, match="over 2 tensor-parallel ranks; a tensor-parallel degree that div") as refused:
        load_strategy(strategy).prepare(Setup(training, configuration, device, configuration.gpu_count))
    assert refused.value.where == axis


def test_every_rank_s_part_of_a_fused_layer_holds_its_own_q_k_and_v() -> None:
    q, k, v = ([f"{name}{rank}" for rank in range(4)] for name in "qkv")
    order = {name: place for place, name in enumerate([*q, *k, *v])}
    columns = interleaved(torch.arange(12).expand(5, 12), outer=3, inner=4)
    expected = [[order[f"{name}{rank}"] for name in "qkv"] for rank in range(4)]
    assert [shard[0].tolist() for shard in columns.chunk(4, dim=1)] == expected
    assert torch.equal(interleaved(columns, outer=4, inner=3)[0], torch.arange(12))
