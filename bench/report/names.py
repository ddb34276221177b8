"""What things are called where there is little room."""

from collections.abc import Mapping
from typing import Any

_VENDORS = ("NVIDIA ", "GeForce ", "AMD Instinct ")


def short_device(model: str) -> str:
    """A device's name without what every other begins with, too.

    >>> short_device("NVIDIA GeForce RTX 2080 Ti")
    'RTX 2080 Ti'
    """
    for vendor in _VENDORS:
        model = model.removeprefix(vendor)
    return model


def describe(row: Mapping[Any, Any]) -> str:
    """A trial in a few words."""
    accumulation = f" × {row['grad_accumulation']}" if row["grad_accumulation"] > 1 else ""
    return (
        f"{row['strategy']} on {row['gpu_count']} {'device' if row['gpu_count'] == 1 else 'devices'}, "
        f"{row['num_layers']} layers, width {row['hidden_size']}, length {row['sequence_length']}, "
        f"batch {row['micro_batch_size']}{accumulation}, {row['precision']}"
    )
