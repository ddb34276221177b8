"""Bytes held on one device: stored activations, and the peak that they make with the model's states (`states`).

Letters as in `architecture`; t tensor-parallel ranks, e bytes of an activation. Leaves out the process itself
(libraries, CUDA context: about 0.5e9 bytes), 5e6 to 25e6 bytes of small objects and kernels' scratch, and the holes in
an allocator's heap: glibc's made a CPU rank's resident set in ordinary steps 1.2 to 2 times as large (four trials).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw.model.architecture import FAMILIES, Numbers, Shape
from joulelaw.model.group import FP32_BYTES
from joulelaw.model.states import States

# Tensors of FFN width that the backward pass keeps: GELU's input and output; five where GPT-2's tanh form, written
# out in Python, keeps its factors too. And those that its own backward holds beside them.
STORED_FFN_TENSORS = {"bert": 2, "gpt2": 5}
TEMPORARY_FFN_TENSORS = {"bert": 1, "gpt2": 2}


@dataclass(frozen=True)
class Numerics:
    """How the numbers of a micro-batch are computed and kept; columns, like a shape's."""

    element_bytes: Numbers
    """Of an activation and of the operands of a product: 4 in fp32 and tf32, 2 in fp16 and bf16."""
    autocast: npt.NDArray[np.bool_]
    """Weights are fp32 and cast operation by operation: what is normalised stays fp32, and casts are kept."""
    fused_attention: npt.NDArray[np.bool_]
    dropout: npt.NDArray[np.bool_]
    checkpointing: npt.ArrayLike = False
    """Of each layer only the input is kept; its backward pass begins with its forward pass."""
    on_cpu: npt.ArrayLike = False
    """Dropout's masks are as wide as what they mask, not a byte; and fused attention has none, so that with dropout it
    is unfused, in fp32 whatever the precision."""

    @property
    def falls_back(self) -> npt.NDArray[np.bool_]:
        """Fused attention was asked for, and is not used."""
        return np.asarray(self.on_cpu) & self.fused_attention & self.dropout

    @property
    def mask_bytes(self) -> Numbers:
        """Of one element of a dropout's mask."""
        return np.where(self.on_cpu, self.element_bytes, 1)


def stored_activation_bytes(shape: Shape, numerics: Numerics, tensor_parallel: npt.ArrayLike = 1) -> Numbers:
    """Bytes that the forward pass of one micro-batch makes for the backward pass: those of each layer and the rest."""
    t = np.asarray(tensor_parallel, dtype=np.float64)
    return shape.tokens * (shape.num_layers * _layer_bytes(shape, numerics, t) + _outside_bytes(shape, numerics))


def peak_bytes(shape: Shape, numerics: Numerics, states: States, words: Numbers, tensor_parallel: Numbers) -> Numbers:
    """Predicted peak of one device in bytes.

    States, and the larger of the two moments of a backward pass: its start, when every activation is kept, and its
    end, when every gradient is. A language model ties its words to its head, so that the head's gradient of them
    (`words`) is there from the start and meets the look-up's at the end.
    """
    tied = words if shape.head == "language_model" else np.zeros_like(words)
    start = states.start + np.maximum(*_activation_peaks(shape, numerics, tensor_parallel, tied))
    return states.always + np.maximum(start, states.end + tied)


def _activation_peaks(shape: Shape, numerics: Numerics, t: Numbers, head_gradient: Numbers) -> tuple[Numbers, Numbers]:
    """Bytes of activations and temporaries at the start of the backward pass: in the head, and in the last layer.

    Head: a language model's loss, its log-probabilities' gradient and the logits', in fp32. Layer, the larger of two:
    gradients of FFN width; or, with the FFN's activations freed, the gradients of unfused attention's scores.
    Checkpointing keeps L inputs, and one layer whole while its backward pass runs.
    """
    e, kept = numerics.element_bytes, np.where(numerics.autocast, FP32_BYTES, numerics.element_bytes)
    layer, outside = _layer_bytes(shape, numerics, t), _outside_bytes(shape, numerics)
    inputs = shape.num_layers * kept * shape.hidden_size
    layers = np.where(numerics.checkpointing, inputs, shape.num_layers * layer)
    recomputed = np.where(numerics.checkpointing, layer, 0)
    loss = FP32_BYTES * shape.vocab_size if shape.head == "language_model" else np.zeros_like(e)
    ffn = e * shape.intermediate_size / t
    scores = _score_gradient_bytes(shape, numerics) / t - STORED_FFN_TENSORS[shape.family] * ffn
    in_layer = np.maximum(TEMPORARY_FFN_TENSORS[shape.family] * ffn, scores)
    in_head = shape.tokens * (layers + outside + 2 * loss)
    # The layers' turn comes when the loss is through, and the gradient of the head's weights made.
    in_last_layer = shape.tokens * (layers + recomputed + outside - loss + in_layer) + head_gradient
    return in_head, in_last_layer


def _layer_bytes(shape: Shape, numerics: Numerics, t: Numbers) -> Numbers:
    """What a layer keeps of a token.

    The inputs of its products, q, k, v, the inputs of its norms and of GELU: 8h + 2f elements for BERT, which at 16
    bits with f = 4h and the two masks of hidden dropout is Korthikanti 2022's 34 h; unfused attention adds its scores,
    fused attention one fp32 number a row. Autocast keeps norms' inputs in fp32, and a cast copy for each of BERT's q, k
    and v. Tensor parallelism divides what lies between a column-wise and a row-wise matrix.
    """
    e, h = numerics.element_bytes, shape.hidden_size
    kept = np.where(numerics.autocast, FP32_BYTES, e)
    copies = np.where(numerics.autocast & FAMILIES[shape.family].separate_qkv, 4, 2)
    whole = kept * 2 * h + copies * e * h + 16 + np.where(numerics.dropout, 2 * h * numerics.mask_bytes, 0)
    ffn = STORED_FFN_TENSORS[shape.family] * shape.intermediate_size
    upcast = np.where(numerics.falls_back & (e < FP32_BYTES), 3 * FP32_BYTES * h, 0)  # q, k and v
    return whole + (e * (4 * h + ffn) + upcast + _score_bytes(shape, numerics)) / t


def _outside_bytes(shape: Shape, numerics: Numerics) -> Numbers:
    """What is kept of a token outside the layers: the embeddings' and the last output, norm statistics, three kinds of
    ids, and for language models the fp32 log-probabilities."""
    e, h = numerics.element_bytes, shape.hidden_size
    kept = np.where(numerics.autocast, FP32_BYTES, e)
    last = np.where(numerics.autocast & shape.encoder, 0, e)  # the pooler casts one token only
    mask = np.where(numerics.dropout & np.asarray(numerics.on_cpu), kept * h, 0)
    outside = (kept + last) * h + mask + 8 + 24
    if shape.head == "language_model":
        outside = outside + FP32_BYTES * shape.vocab_size + e * h * (4 if shape.encoder else 1)
    return outside


def _score_types(shape: Shape, numerics: Numerics) -> tuple[Numbers, Numbers]:
    """Bytes of unfused attention's scores, after the softmax and in the product with the values.

    Autocast keeps CUDA's softmax in fp32; on a CPU it does so only where an fp32 mask was added, as GPT-2's is.
    """
    e = np.where(numerics.falls_back, FP32_BYTES, numerics.element_bytes)
    widened = numerics.autocast & (~np.asarray(numerics.on_cpu) | (not shape.encoder))
    return np.where(widened, FP32_BYTES, e), e


def _score_bytes(shape: Shape, numerics: Numerics) -> Numbers:
    """What attention keeps of its scores, of a token and layer: after the softmax, dropout's mask, and once more where
    dropout or a cast made a copy for the product."""
    softmax, e = _score_types(shape, numerics)
    mask = np.where(numerics.on_cpu, e, 1)
    copied = np.where(numerics.dropout | (softmax != e), e, 0)
    unfused = shape.num_heads * shape.sequence_length * (softmax + np.where(numerics.dropout, mask, 0) + copied)
    fused = numerics.fused_attention & ~numerics.falls_back
    return np.where(fused, 4 * shape.num_heads, unfused)


def _score_gradient_bytes(shape: Shape, numerics: Numerics) -> Numbers:
    """What attention's backward pass holds beside its scores: their gradients before and after the softmax, less the
    copy that was freed when the first was made. None where it is fused."""
    softmax, e = _score_types(shape, numerics)
    copied = np.where(numerics.dropout | (softmax != e), e, 0)
    gradients = shape.num_heads * shape.sequence_length * np.maximum(2 * softmax - copied, e)
    return np.where(numerics.fused_attention & ~numerics.falls_back, 0, gradients)
