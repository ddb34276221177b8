"""Tensors and buckets equal what torch has: models' own parameters, their hooks, and DDP's own cutting."""

from itertools import chain, repeat

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from joulelaw.model.architecture import Shape, layer_parameters, parameters
from joulelaw.model.buckets import closed_before_full, closed_when_full
from joulelaw.model.group import elements
from joulelaw.model.tensors import Tensor, Tensors, tensors_of
from tests.model.test_architecture import MODELS, SIZES, loss_of, model_of, shape_of


def one_by_one(tensors: Tensors, layers: int) -> list[Tensor]:
    return [*tensors.first, *chain.from_iterable(repeat(tensors.layer, layers)), *tensors.last]


@pytest.mark.parametrize("cast", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("family", "head"), MODELS)
def test_tensors_come_as_gradients_do(family: str, head: str, checkpointing: bool, cast: bool) -> None:
    model = model_of(family, head, SIZES[1])
    if checkpointing:
        model.activation_checkpointing_enable()
    seen: list[tuple[int, int]] = []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: seen.append((p.shape[0], p.numel() // p.shape[0])))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast):
        loss = loss_of(model, head, SIZES[1])
    loss.backward()
    tensors = one_by_one(tensors_of(shape_of(family, head, SIZES[1]), cast=cast), SIZES[1][0])
    assert [(tensor.rows, tensor.columns) for tensor in tensors] == seen


@pytest.mark.parametrize(("family", "head"), MODELS)
def test_tensors_add_up_to_the_parameters(family: str, head: str) -> None:
    shape = shape_of(family, head, SIZES[0])
    assert tensors_of(shape).sum(shape.num_layers, elements) == parameters(shape)


tensor_sizes = st.lists(st.integers(1, 60), max_size=5)


@settings(max_examples=200, deadline=None)
@given(tensor_sizes, tensor_sizes, tensor_sizes, st.lists(st.integers(0, 40), min_size=1, max_size=3))
def test_buckets_are_cut_as_ddp_cuts_them(
    first: list[int], layer: list[int], last: list[int], num_layers: list[int]
) -> None:
    """Against torch's own function, for models of several depths in one call."""
    tensors = Tensors(*([_tensor(rows) for rows in part] for part in (first, layer, last)))
    found = closed_when_full(tensors, np.array(num_layers, dtype=float), 40, 100, elements)
    for count, depth in zip(found, num_layers, strict=True):
        made = [torch.empty(int(tensor.rows)) for tensor in one_by_one(tensors, depth)]
        expected = dist._compute_bucket_assignment_by_size(made, [160, 400])[0] if made else []
        assert count == len(expected)


@settings(max_examples=200, deadline=None)
@given(tensor_sizes, st.integers(0, 40))
def test_a_bucket_closed_before_it_is_full_holds_no_more_than_its_limit(sizes: list[int], depth: int) -> None:
    """Written out for one model: put each tensor where it fits, or open the next bucket."""
    tensors = Tensors([], [_tensor(rows) for rows in sizes], [])
    buckets: list[int] = []
    for size in sizes * depth:
        if buckets and buckets[-1] + size <= 50:
            buckets[-1] += size
        else:
            buckets.append(size)
    assert closed_before_full(tensors, np.array([float(depth)]), 50, elements) == len(buckets)


def test_a_very_deep_model_is_counted_in_no_time() -> None:
    """A number that no model has must not keep a plan waiting."""
    sizes = {name: [8.0, 8.0] for name in ("hidden_size", "num_heads", "intermediate_size", "vocab_size")}
    shape = Shape.of("bert", num_layers=[2.0, 1e9], sequence_length=[8, 8], micro_batch_size=[1, 1], **sizes)
    few, many = closed_when_full(tensors_of(shape), shape.num_layers, 100, 200, elements)
    assert few < 20
    assert many == pytest.approx(1e9 * layer_parameters(shape)[1] / 200, rel=1e-3)


def _tensor(rows: int) -> Tensor:
    return Tensor(np.array(float(rows)), np.array(1.0))
