"""What a sweep may ask of a recurrent network: one device, its own sizes, and nothing that only Transformers have."""

from collections.abc import Iterator

from joulelaw.bench.spec.configuration import Configuration
from joulelaw.model import recurrent

APART = "or give recurrent networks a grid of their own"


def recurrent_mismatches(asked: Configuration) -> Iterator[tuple[str, str, str]]:
    """The axis, what is wrong and what to do, of a configuration whose family is recurrent and strategy single."""
    family, gates = asked.model_family, recurrent.FAMILIES[asked.model_family].gates
    if asked.num_heads != 1:
        yield "num_heads", f"{asked.num_heads} heads, and a layer of {family} has none", f"leave it out, {APART}"
    if asked.intermediate_size != gates * asked.hidden_size:
        what = f"{asked.intermediate_size}, but the {gates} gates of {family} are {gates * asked.hidden_size} wide"
        yield "intermediate_size", what, f"leave it out, {APART}"
    if asked.attention != "sdpa":
        yield "attention", f"{asked.attention!r} attention, and {family} has none", f"leave it out, {APART}"
    if asked.checkpoint:
        yield "checkpoint", f"{asked.checkpoint!r}, and {family} is no model of Hugging Face", f"leave it out, {APART}"
    for axis in ("activation_checkpointing", "torch_compile"):
        if getattr(asked, axis):
            yield axis, f"true, which {family} cannot have here: its layers are one fused call", f"false, {APART}"


def why_not_spread(asked: Configuration) -> str | None:
    """Why a strategy cannot train this model; None where it can."""
    if asked.strategy == "single" or asked.model_family not in recurrent.FAMILIES:
        return None
    return f"strategy {asked.strategy!r}, but {asked.model_family} is trained on one device only"
