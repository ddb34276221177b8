"""The row of `parallelism.counts` of recurrent networks, and the memory that they hold on their one device."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from joulelaw import InputError
from joulelaw.model import recurrent
from joulelaw.model.architecture import Numbers
from joulelaw.model.kernels import ADAM_ELEMENTS, ADAM_TENSORS
from joulelaw.model.recurrent import FAMILIES, FP32_BYTES, Shape


def recurrent_counts(
    family: str,
    strategy: str,
    head: str,
    given: Mapping[str, npt.NDArray[Any]],
    per_parameter: Mapping[str, float],
    *,
    peak: bool = True,
) -> dict[str, Numbers]:
    """The counts of rows of one family, strategy and head; `per_parameter` bytes of adamw, accumulation and cast.

    Raises:
        InputError: a strategy other than `single`, more than one device, or sizes that the family cannot have.
    """
    if strategy != "single" or (given["gpu_count"] != 1).any():
        what = f"strategy {strategy!r} on {given['gpu_count'].max():g} devices, and {family} is counted on one"
        raise InputError(what, where="strategy", remedy="strategy single, gpu_count 1")
    shape, k, e = Shape.of(family, head, given), given["grad_accumulation"], given["element_bytes"]
    psi, flop = recurrent.parameters(shape), recurrent.flop_training(shape)
    autocast = e < FP32_BYTES
    cast = np.where(autocast, psi - shape.vocab_size * shape.input_size, 0)
    weights = recurrent.embedding_bytes(shape, e) + per_parameter["cast"] * cast
    zero, one = np.zeros_like(psi), np.ones_like(psi)
    adam = np.ceil(np.maximum(recurrent.tensors(shape) / ADAM_TENSORS, psi / ADAM_ELEMENTS))
    found = {
        "num_parameters": psi,
        "data_parallel": one,
        "tensor_parallel": one,
        "tokens_per_micro_step": shape.tokens,
        "flop_per_micro_step": flop,
        "row_flop_per_micro_step": flop / shape.micro_batch_size,  # a time step's products have a row a sequence
        "recomputed_flop_per_micro_step": zero,
        "hardware_flop_per_micro_step": flop,
        "gemm_bytes_per_micro_step": recurrent.matmul_bytes(shape, e) + weights,
        "elementwise_bytes_per_micro_step": stored_activation_bytes(shape, e, given["dropout"] > 0, given["on_cpu"]),
        "optimizer_bytes_per_step": per_parameter["adamw"] * psi + per_parameter["accumulation"] * (k - 1) * psi,
        "comm_bytes_per_micro_step": zero,
        "comm_bytes_per_step": zero,
        "collectives_per_micro_step": zero,
        "collectives_per_step": zero,
        "kernels_per_micro_step": recurrent.kernels_per_micro_step(shape, given["on_cpu"], k),
        "kernels_per_step": adam + 1,
    }
    return found | {"memory_bytes_per_device": peak_bytes(shape, given)} if peak else found


def stored_activation_bytes(
    shape: Shape, e: Numbers, dropout: npt.NDArray[np.bool_], on_cpu: npt.NDArray[np.bool_]
) -> Numbers:
    """Bytes that the forward pass of one micro-batch keeps for the backward pass.

    Of a token: the embeddings, twice; each layer's tensors of width h; between layers dropout's mask and result; a
    language model's log-probabilities. cuDNN's reserve was not measured: it is taken to be as large.
    """
    family, h = FAMILIES[shape.family], shape.hidden_size
    layer = h * (family.stored * e + family.stored_fp32 * (FP32_BYTES - e))
    between = np.where(dropout, (e + np.where(on_cpu, e, 1)) * h, 0)
    words = 2 * FP32_BYTES * shape.input_size
    kept = shape.tokens * (shape.num_layers * layer + (shape.num_layers - 1) * between + words)
    return kept + _log_probabilities(shape)


def peak_bytes(shape: Shape, given: Mapping[str, npt.NDArray[Any]]) -> Numbers:
    """Predicted peak of the device in bytes: 12 a parameter, and the largest of three moments.

    The loss of a language model, with two more tensors of the logits' size; the last layer's backward pass; and its
    end, with all gradients, where the LSTM of a CPU holds its largest layer's weights twice more, in oneDNN's order,
    and with several micro-steps new gradients beside the old. Measured on a CPU.
    """
    family, h, e, tokens = FAMILIES[shape.family], shape.hidden_size, given["element_bytes"], shape.tokens
    psi, several = recurrent.parameters(shape), given["grad_accumulation"] > 1
    kept = stored_activation_bytes(shape, e, given["dropout"] > 0, given["on_cpu"])
    logits = _log_probabilities(shape)
    wide = np.where(family.temporaries_fp32, FP32_BYTES, e)
    beside = tokens * (wide * family.temporaries * h + FP32_BYTES * (family.inputs - 2) * shape.input_size)
    head = np.where(logits > 0, FP32_BYTES * (h + 1) * shape.outputs, 0)
    start = np.where(several, FP32_BYTES * psi, 0) + np.maximum(kept + 2 * logits, kept - logits + beside + head)
    width = np.where(shape.num_layers > 1, np.maximum(h, shape.input_size), shape.input_size)
    layer = FP32_BYTES * shape.gates * h * (width + h)
    words = FP32_BYTES * shape.vocab_size * shape.input_size
    is_lstm = shape.family == "lstm"
    again = np.where(several, FP32_BYTES * psi if is_lstm else words, 0)
    end = FP32_BYTES * psi + again + (2 if is_lstm else 1) * layer
    return np.asarray(12 * psi + np.maximum(start, end))


def _log_probabilities(shape: Shape) -> Numbers:
    """Of a language model, in fp32."""
    size = FP32_BYTES * shape.guesses * shape.vocab_size
    return np.asarray(size if shape.head == "language_model" else np.zeros_like(size))
