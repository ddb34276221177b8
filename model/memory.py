"""Bytes held on one device: model states, stored activations, and the peak that they make together.

Letters as in `architecture`; Psi parameters, N data-parallel ranks, t tensor-parallel ranks, p bytes of a parameter
as it is computed with. Leaves out the process itself (libraries, CUDA context: about 0.5e9 bytes), what the
allocator cannot reuse, and that on a GPU DeepSpeed's reduce buffer has 5e8 elements however small the model.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw.model.architecture import FAMILIES, Numbers, Shape
from joulelaw.model.zero import ZERO_BUCKET

# Tensors of FFN width that the backward pass keeps: GELU's input and output; five where GPT-2's tanh form, written
# out in Python, keeps its factors too.
STORED_FFN_TENSORS = {"bert": 2, "gpt2": 5}
# DeepSpeed's default stage3_max_live_parameters, in elements.
ZERO3_LIVE_PARAMETERS = 1e9


@dataclass(frozen=True)
class Numerics:
    """How the numbers of a micro-batch are computed and kept; columns, like a shape's."""

    element_bytes: Numbers
    """Of an activation and of the operands of a product: 4 in fp32 and tf32, 2 in fp16 and bf16."""
    autocast: npt.NDArray[np.bool_]
    """Weights are fp32 and cast operation by operation: what is normalised stays fp32, and casts are kept."""
    fused_attention: npt.NDArray[np.bool_]
    dropout: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class States:
    """Bytes of the model's states on one device."""

    always: Numbers
    """Weights, optimizer state and communication buffers."""
    gradients: Numbers
    """Freed by the optimizer step, so with one micro-step they never meet all of the activations."""
    gathered: Numbers
    """Whole weights that sharding gathers for a while, and buffers of what is communicated."""


def stored_activation_bytes(shape: Shape, numerics: Numerics, tensor_parallel: npt.ArrayLike = 1) -> Numbers:
    """Bytes that the forward pass of one micro-batch leaves for the backward pass.

    A layer keeps the inputs of its products, q, k, v, the inputs of its norms and of GELU: B s (8h + 2f) elements for
    BERT, which at 16 bits with f = 4h and the two masks of hidden dropout is Korthikanti 2022's 34 B s h; unfused
    attention adds its a s^2 scores (with dropout a mask and their dropped copy: 5 a s^2 B), fused attention one fp32
    number a row. Autocast keeps norms' inputs in fp32, and a cast copy for each of BERT's q, k and v. Tensor
    parallelism divides what lies between a column-wise and a row-wise matrix. Outside the layers: the embeddings'
    and the last output, and for language models the fp32 log-probabilities. Equal to the storages that autograd
    saves. Leaves out masks that CPUs keep in full precision.
    """
    t = np.asarray(tensor_parallel, dtype=np.float64)
    e, h = numerics.element_bytes, shape.hidden_size
    kept = np.where(numerics.autocast, 4, e)
    copies = np.where(numerics.autocast & FAMILIES[shape.family].separate_qkv, 4, 2)
    whole = kept * 2 * h + copies * e * h + 16 + np.where(numerics.dropout, 2 * h, 0)
    ffn = STORED_FFN_TENSORS[shape.family] * shape.intermediate_size
    layer = whole + (e * (4 * h + ffn) + _score_bytes(shape, numerics)) / t
    last = np.where(numerics.autocast & (shape.family == "bert"), 0, e)  # the pooler casts one token only
    outside = (kept + last) * h + 8 + 24  # norm statistics, and three kinds of ids
    if shape.head == "language_model":
        outside = outside + 4 * shape.vocab_size + e * h * (4 if shape.family == "bert" else 1)
    return shape.tokens * (shape.num_layers * layer + outside)


def peak_bytes(
    shape: Shape,
    numerics: Numerics,
    states: States,
    grad_accumulation: npt.ArrayLike,
    tensor_parallel: npt.ArrayLike = 1,
) -> Numbers:
    """Predicted peak of one device in bytes.

    States, and the larger of the two moments of a backward pass: its start, when every activation is kept, and its
    end, when every gradient is. Gradients of earlier micro-steps are there at the start as well, and at the end the
    new dense gradient of the word embeddings comes on top. Beside the stored activations stand one of FFN width and
    a language model's logits with their gradient. Within 10 % of the live tensors of a training step on one device.
    """
    t = np.asarray(tensor_parallel, dtype=np.float64)
    e, words = numerics.element_bytes, 4 * shape.vocab_size * shape.hidden_size
    temporary = e * shape.intermediate_size / t
    if shape.head == "language_model":
        temporary = temporary + (e + 4) * shape.vocab_size
    start = stored_activation_bytes(shape, numerics, t) + shape.tokens * temporary
    several = np.asarray(grad_accumulation, dtype=np.float64) > 1
    accumulating = states.gradients + np.maximum(start, words)
    moment = np.where(several, accumulating, np.maximum(start, states.gradients))
    return states.always + states.gathered + moment


def replicated_states(psi: Numbers, cast: Numbers, bucketed: bool = False) -> States:
    """16 bytes a parameter: fp32 weight 4, gradient 4, Adam 8, and autocast's 16-bit copies (`cast` bytes).

    `bucketed`: the gradients are views of DDP's buckets, which stay.
    """
    always = (16 if bucketed else 12) * psi + cast
    return States(always=always, gradients=(0 if bucketed else 4) * psi, gathered=np.zeros_like(psi))


def fsdp_states(psi: Numbers, root: Numbers, layer: Numbers, p: Numbers, N: Numbers) -> States:
    """16 Psi / N, and gathered: the root group, the layer at work and the next one, and the root's whole gradient."""
    whole = np.where(N > 1, p * (2 * root + 2 * layer) + 4 * root, 0)
    return States(always=12 * psi / N, gradients=4 * psi / N, gathered=whole)


def zero_states(stage: int, psi: Numbers, p: Numbers, N: Numbers) -> States:
    """ZeRO (Rajbhandari 2020, section 3): master weights and Adam 12/N; gradients p, then p/N; weights p, then p/N.

    At 16 bits stage 1 holds 4 + 12/N bytes a parameter, stage 2 2 + 14/N, stage 3 16/N. In fp32 DeepSpeed keeps its
    master copy too. Stage 3 keeps what it has gathered, up to its limit of live parameters. DeepSpeed's buffers, as
    seen on two CPU ranks: two copies of the gradients of a bucket in stages 1 and 2, four in stage 3.
    """
    gradients = p * psi / (N if stage >= 2 else 1)
    weights = p * psi / (N if stage == 3 else 1)
    buffers = (4 if stage == 3 else 2) * p * np.minimum(psi, ZERO_BUCKET)
    live = p * np.minimum(psi, ZERO3_LIVE_PARAMETERS) if stage == 3 else 0
    return States(always=weights + 12 * psi / N, gradients=gradients, gathered=buffers + live)


def _score_bytes(shape: Shape, numerics: Numerics) -> Numbers:
    """What attention keeps of its scores, a token and layer."""
    e, rows = numerics.element_bytes, shape.num_heads * shape.sequence_length
    unfused = rows * np.where(numerics.dropout, 2 * e + 1, e)
    return np.where(numerics.fused_attention, 4 * shape.num_heads, unfused)
