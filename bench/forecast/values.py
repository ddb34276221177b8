"""Which single values of a training cannot be, whatever the others are: of every command that asks for them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Attention, Head, Precision, Strategy
from joulelaw.bench.spec.errors import close_match

CHOICES = {"strategy": Strategy, "precision": Precision, "attention": Attention, "head": Head}
COUNTS = ("gpu_count", "node_count", "tensor_parallel", "micro_batch_size", "sequence_length", "grad_accumulation")
RATES = ("power_limit_w", "link_bytes_per_s", "network_bytes_per_s")
MOST = 10**9


def wrong_values(given: Mapping[str, Any]) -> Iterator[InputError]:
    """What is wrong with values by their columns' names; those that are not given are not looked at."""
    for name, kind in CHOICES.items():
        known = get_args(kind)
        if name in given and given[name] not in known:
            yield InputError(f"unknown value {given[name]!r}", where=name, remedy=close_match(given[name], known))
    for name in (*COUNTS, "num_labels"):
        if name in given and not 1 <= given[name] <= MOST:
            yield InputError(f"{given[name]} is out of range", where=name, remedy="a whole number of at least 1")
    for name in RATES:
        if name in given and not 0 < given[name] < math.inf:
            yield InputError(f"{given[name]:g} is out of range", where=name, remedy="a number of more than 0")
    if "dropout" in given and not 0 <= given["dropout"] < 1:
        yield InputError(f"{given['dropout']:g} is out of range", where="dropout", remedy="at least 0 and below 1")
