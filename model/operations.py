"""What a forward pass consists of: P2's operations, the FLOPs of one call of each, and how often it is called.

Source: M. Zoubeirou a Mayaki and V. Charpenay, "Modeling Energy Consumption in Deep Learning Architectures Using Power
Laws", ECAI 2025, DOI 10.3233/FAIA250900. Letters: B micro-batch, s sequence length, h width, i input width, L layers.
A multiply-add is 2 FLOP. Element-wise work is counted as the paper's data count it: one FLOP a gate's activation, two
for a sum of two products and for the output's tanh with its product. GRU, which the data lack, is counted likewise.
Left out, by the paper's choice: softmax, normalisation, feed-forward layers, embeddings, the head and the optimizer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.model.columns import numbers

Array = npt.NDArray[np.float64]
Flop = Callable[[Array, Array, Array, Array], Array]  # of B, s, h, i

FLOP: dict[str, dict[str, Flop]] = {
    "transformer": {
        "qkv_projections": lambda B, s, h, i: 6 * B * s * h**2,
        "attention_scores": lambda B, s, h, i: 2 * B * s**2 * h,
        "attention_output": lambda B, s, h, i: 2 * B * s**2 * h,
        "final_projection": lambda B, s, h, i: 2 * B * s * h**2,
    },
    "lstm": {
        "input_gating": lambda B, s, h, i: 8 * B * i * h,
        "hidden_gating": lambda B, s, h, i: 8 * B * h**2,
        "activations": lambda B, s, h, i: 4 * B * h,  # three sigmoids and a tanh
        "cell_update": lambda B, s, h, i: 2 * B * h,  # f c + i g
        "hidden_update": lambda B, s, h, i: 2 * B * h,  # o tanh(c)
    },
    "gru": {
        "input_gating": lambda B, s, h, i: 6 * B * i * h,
        "hidden_gating": lambda B, s, h, i: 6 * B * h**2,
        "activations": lambda B, s, h, i: 3 * B * h,  # two sigmoids and a tanh
        "hidden_update": lambda B, s, h, i: 3 * B * h,  # r times its part of the candidate, and (1 - z) n + z h
    },
}
NETWORK = {"bert": "transformer", "gpt2": "transformer", "lstm": "lstm", "gru": "gru"}


@dataclass(frozen=True)
class Call:
    """Equal calls of one operation in the forward pass of one micro-batch, a value a row."""

    operation: str
    flop: Array  # of one call
    number: Array


def network_of(model_family: str) -> str:
    """The network that a model family is made of. Raises InputError where its operations are not known."""
    if model_family not in NETWORK:
        known = ", ".join(NETWORK)
        what = f"the operations of model_family {model_family!r} are not known"
        raise InputError(what, where="model_family", remedy=f"one of {known}")
    return NETWORK[model_family]


def forward_calls(network: str, table: pd.DataFrame) -> Sequence[Call]:
    """The calls of a forward pass of each row's micro-batch, given columns of the measurement table.

    A recurrent network calls each operation once a time step and layer, as the paper times it; its first layer reads
    `input_size` (default: hidden_size), the others hidden_size. cuDNN gathers the steps' input gating into one product.
    """
    B, s, h, L = (numbers(table, n) for n in ("micro_batch_size", "sequence_length", "hidden_size", "num_layers"))
    i = numbers(table, "input_size", h)
    if network == "transformer":
        return [Call(name, flop(B, s, h, i), L) for name, flop in FLOP[network].items()]
    calls = []
    for name, flop in FLOP[network].items():
        calls += [Call(name, flop(B, s, h, i), s), Call(name, flop(B, s, h, h), s * (L - 1))]
    return calls
