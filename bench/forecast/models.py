"""Hugging Face model names and config.json files -> the shape that the law counts; other families are refused."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """A model as its config.json has it."""

    name: str
    model_family: str
    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    positions: int
    """The longest sequence that it takes."""
    source: str
    """Where the shape is from: the shipped table, the hub, or a file."""

    @property
    def shape(self) -> dict[str, object]:
        """Columns of the measurement table."""
        names = ("model_family", "num_layers", "hidden_size", "num_heads", "intermediate_size", "vocab_size")
        return {name: getattr(self, name) for name in names}


def model_of(model: str) -> Model:
    """The model of a Hugging Face name, a config.json, or the folder that holds one.

    Raises:
        InputError: where="model": an unknown name (with the close ones), a file that is none, a family that is not
            counted, or a setting that makes the model compute something else.
    """
    raise NotImplementedError


def shape_of(model: str) -> dict[str, object]:
    """model_family, num_layers, hidden_size, num_heads, intermediate_size, vocab_size; raises as `model_of`."""
    return model_of(model).shape
