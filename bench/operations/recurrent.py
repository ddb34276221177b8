"""The operations of an LSTM's or a GRU's forward pass: P2's, one time step and layer a call, on the model's weights.

FLOPs of the matrix products as torch counts them; of the others as P2's data count them (`model.operations`). The
model itself runs fused kernels (oneDNN, cuDNN) or native ones, which gather the inputs' products of all time steps:
the sum of isolated calls, each with its own launch, is then far above the whole pass, and the table says so.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional

from joulelaw.bench.data.batches import Batch
from joulelaw.bench.operations.timing import Operation
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.training.precision import autocast
from joulelaw.bench.workloads import TrainingModel
from joulelaw.model import recurrent

Tensor = torch.Tensor


def recurrent_operations(
    training: TrainingModel, configuration: Configuration, batch: Batch, device: torch.device
) -> Iterator[Operation]:
    """`input_gating` once for the first layer's input and once for the others', where that is another width."""
    c, model = configuration, training.module
    layers: Any = model.layers
    B, h, s, gates = c.micro_batch_size, c.hidden_size, c.sequence_length, recurrent.FAMILIES[c.model_family].gates
    everything, width = list(model.parameters()), c.input_size or c.hidden_size
    weights = [getattr(layers, name) for name in ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")]
    with autocast(c.precision, device):
        x, state = (torch.randn(B, each, device=device) for each in (width, h))
        given, recalled = _linear(weights[:2])(x).detach(), _linear(weights[2:])(state).detach()
    calls = s * c.num_layers

    first = calls if width == h else s
    yield Operation("input_gating", 2 * B * width * gates * h, first, _linear(weights[:2]), [x], weights[:2])
    if first < calls:
        others = [layers.weight_ih_l1, layers.bias_ih_l1]
        yield Operation("input_gating", 2 * B * h * gates * h, calls - first, _linear(others), [state], others)
    yield Operation("hidden_gating", 2 * B * h * gates * h, calls, _linear(weights[2:]), [state], weights[2:])
    cell = torch.randn(B, h, device=device, dtype=given.dtype)
    if c.model_family == "lstm":
        sums = given + recalled
        yield Operation("activations", 4 * B * h, calls, _lstm_activations, [sums])
        i, f, g, o = _lstm_activations(sums)
        yield Operation("cell_update", 2 * B * h, calls, lambda f, c, i, g: f * c + i * g, [f, cell, i, g])
        yield Operation("hidden_update", 2 * B * h, calls, lambda o, c: o * c.tanh(), [o, cell])
    else:
        yield Operation("activations", 3 * B * h, calls, _gru_activations, [given, recalled])
        z, n, part = (torch.rand_like(cell) for _ in range(3))
        yield Operation(
            "hidden_update", 3 * B * h, calls, lambda z, n, r, p, h: (r * p, n + z * (h - n)), [z, n, z, part, cell]
        )
    yield Operation("embeddings", B * s * width, 1, _attribute(model, "words"), [batch["input_ids"]], everything)
    hidden = torch.randn(B, s, h, device=device, dtype=given.dtype)
    head: Any = model
    mask = batch.get("attention_mask")
    loss: Callable[[Tensor], Tensor] = lambda hidden: head.loss_of(hidden, batch["labels"], mask).loss  # noqa: E731
    yield Operation("head", _head_flop(c), 1, loss, [hidden], everything)


def _lstm_activations(gates: Tensor) -> tuple[Tensor, ...]:
    i, f, g, o = gates.chunk(4, -1)
    return i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()


def _gru_activations(given: Tensor, recalled: Tensor) -> tuple[Tensor, ...]:
    """Of the sums of reset and update gates, and of the candidate as if its reset part were added."""
    (r, z, n), (r_h, z_h, n_h) = given.chunk(3, -1), recalled.chunk(3, -1)
    return (r + r_h).sigmoid(), (z + z_h).sigmoid(), (n + n_h).tanh()


def _linear(weights: list[Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: functional.linear(x, weights[0], weights[1])


def _attribute(model: torch.nn.Module, name: str) -> Callable[[Tensor], Tensor]:
    return getattr(model, name)  # type: ignore[no-any-return]


def _head_flop(c: Configuration) -> float:
    if c.head == "language_model":
        return 2.0 * c.micro_batch_size * (c.sequence_length - 1) * c.hidden_size * c.vocab_size
    return 2.0 * c.micro_batch_size * c.hidden_size * c.num_labels
