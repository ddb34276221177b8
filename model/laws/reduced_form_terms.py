"""The columns of P1's law by name: its proxies C and M, the size of the group, and the texts of a configuration.

A term is a logarithm (`log_C`), a text's value (`strategy[fsdp]`), or their product (`log_gpu_count*strategy[fsdp]`).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from joulelaw.model.laws.base import Parameters, Rows

Array = npt.NDArray[np.float64]

MEANINGS = {
    "intercept": "logarithm where every other term is 0",
    "log_C": "exponent of C = tokens x 20 L d^2",
    "log_M": "exponent of M = b s L d",
    "log_h": "exponent of the parallel efficiency h",
    "log_gpu_count": "exponent of the number of devices",
    "log_micro_steps": "exponent of the number of micro-steps",
    "log_grad_accumulation": "exponent of the micro-steps per optimizer step",
}


def meaning(name: str) -> str:
    return MEANINGS.get(name, f"shift of the logarithm for {name}")


def design(rows: Rows, names: Sequence[str], log_h: Array) -> Array:
    """The design matrix, one column a named term. C in FLOP-like units of tokens x parameters, M in elements."""
    columns = [_term(rows, name, log_h) for name in names]
    return np.column_stack(columns) if columns else np.zeros((len(rows), 0))


def expanded(rows: Rows, terms: Sequence[str]) -> list[str]:
    """Terms with every text column replaced by one term for each of its values among the rows but the first."""
    names: list[str] = []
    for term in terms:
        column = term.rpartition("*")[2]
        if column.startswith("log_") or column == "intercept":
            names.append(term)
        else:
            names += [f"{term}[{value}]" for value in sorted(set(rows.table[column].astype(str)))[1:]]
    return names


def named(parameters: Parameters, target: str) -> list[str]:
    """The terms of a target among parameters called "target.term"."""
    return [name.removeprefix(f"{target}.") for name in parameters if name.startswith(f"{target}.")]


def _term(rows: Rows, name: str, log_h: Array) -> Array:
    number, times, text = name.partition("*")
    if times and "[" not in number:
        return _term(rows, number, log_h) * _term(rows, text, log_h)
    c = rows.column
    if name == "intercept":
        return np.ones(len(rows))
    if name == "log_h":
        return log_h
    if name == "log_C":
        return np.log(rows.tokens * 20 * c("num_layers") * c("hidden_size") ** 2)
    if name == "log_M":
        return np.log(c("micro_batch_size") * c("sequence_length") * c("num_layers") * c("hidden_size"))
    if name.startswith("log_"):
        return np.log(c(name.removeprefix("log_")))
    column, _, value = name[:-1].partition("[")
    return np.asarray(rows.table[column].astype(str) == value, dtype=np.float64)
