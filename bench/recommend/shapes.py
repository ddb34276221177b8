"""Which models to choose among: named ones, or the usual shapes whose parameters or training FLOPs lie in a range."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from joulelaw import InputError
from joulelaw.bench.forecast.models import model_of
from joulelaw.model.architecture import Shape, parameters
from joulelaw.model.parallelism import USUAL_HEAD
from joulelaw.model.work import flop_training

# The usual shapes: heads of width 64, an FFN four times as wide, the family's own vocabulary, and a width of 16 to 256
# for each layer (BERT-base 64, BERT-large 43, GPT-2 XL 33).
LAYERS = (2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 30, 36, 48)
WIDTHS = (128, 192, 256, 320, 384, 512, 640, 768, 896, 1024, 1280, 1536, 1600, 2048, 2560, 3072, 4096)
HEAD_WIDTH, FFN = 64, 4
WIDTH_OF_A_LAYER = (16, 256)
VOCABULARIES = {"bert": 30522, "gpt2": 50257}

SHAPE = ("num_layers", "hidden_size", "num_heads", "intermediate_size", "vocab_size")
Range = tuple[float, float]


@dataclass(frozen=True)
class Grid:
    """The shapes that a range picks from; empty: the usual ones."""

    families: Sequence[str] = tuple(VOCABULARIES)
    layers: Sequence[int] = ()
    widths: Sequence[int] = ()
    head: str = ""
    """Empty: what a family is mostly fine-tuned with."""


def named_shapes(models: Sequence[str], sequence_length: int) -> pd.DataFrame:
    """A row a model, with its name and shape.

    Raises:
        InputError: as `model_of`; a model that takes no sequence as long.
    """
    found = [model_of(each) for each in models]
    for each in found:
        if sequence_length > each.positions:
            what = f"{sequence_length} tokens, but {each.name} takes at most {each.positions}"
            raise InputError(what, where="--sequence-length", remedy=f"at most {each.positions}")
    return pd.DataFrame([{"model": each.name, **each.shape} for each in found])


def shapes_within(
    grid: Grid, sequence_length: int, sequences: float, *, parameter_range: Range | None, flop_range: Range | None
) -> pd.DataFrame:
    """A row a shape of the grid whose parameters, and FLOPs of training on so many sequences, are within the ranges.

    FLOPs are the model's (forward, and twice that backward). Raises InputError where no shape is.
    """
    parts = []
    for family in grid.families:
        table = _grid(family, grid)
        head = grid.head or USUAL_HEAD.get(family, "classification")
        sizes = {name: table[name].to_numpy() for name in SHAPE}
        shape = Shape.of(family, head=head, sequence_length=sequence_length, micro_batch_size=1, **sizes)
        parts.append(table.assign(num_parameters=parameters(shape), flop=flop_training(shape) * sequences))
    found = pd.concat(parts, ignore_index=True)
    kept = np.ones(len(found), dtype=bool)
    for name, wanted in (("num_parameters", parameter_range), ("flop", flop_range)):
        if wanted is not None:
            kept &= found[name].between(*wanted).to_numpy()
            if not kept.any():
                raise _none_in(name, found, wanted)
    return found[kept].drop(columns=["num_parameters", "flop"]).reset_index(drop=True)


def _grid(family: str, grid: Grid) -> pd.DataFrame:
    low, high = WIDTH_OF_A_LAYER
    asked = bool(grid.layers or grid.widths)
    rows = [
        {
            "model": f"{family} {layers} x {width}",
            "model_family": family,
            "num_layers": layers,
            "hidden_size": width,
            "num_heads": max(width // HEAD_WIDTH, 1),
            "intermediate_size": FFN * width,
            "vocab_size": VOCABULARIES[family],
        }
        for layers, width in itertools.product(grid.layers or LAYERS, grid.widths or WIDTHS)
        if asked or low <= width / layers <= high
    ]
    for row in rows:
        if int(str(row["hidden_size"])) % int(str(row["num_heads"])):
            remedy = f"multiples of {HEAD_WIDTH}"
            raise InputError(f"heads do not divide a width of {row['hidden_size']}", where="--width", remedy=remedy)
    return pd.DataFrame(rows)


def _none_in(name: str, found: pd.DataFrame, wanted: Range) -> InputError:
    values = found[name].to_numpy(dtype=float)
    middle = float(np.sqrt(wanted[0] * wanted[1]))
    near = found.iloc[int(np.argmin(np.abs(np.log(values / middle))))]
    what = f"no shape has {wanted[0]:g} to {wanted[1]:g} {'FLOPs' if name == 'flop' else 'parameters'}"
    remedy = f"widen it, or name --layers and --width; the nearest is {near['model']} with {near[name]:.3g}"
    return InputError(what, where="--flop" if name == "flop" else "--parameters", remedy=remedy)
