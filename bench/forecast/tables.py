"""Tables as people have them: a model by its name instead of six columns of sizes, and what stands for one not said."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.bench.forecast.models import SHAPE, model_of
from joulelaw.bench.forecast.run import DEFAULTS

MODEL, LENGTH = "model", "sequence_length"
COLUMNS = ("model_family", *SHAPE)
# Of a run to be forecast; a measured one says how it was done.
USUAL = ("gpu_count", "node_count", "grad_accumulation")


def with_shapes(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns of the models' shapes that it lacks, by its column `model`, where it has one.

    Raises:
        InputError: where="table row N": a name that `model_of` refuses, or none; more tokens than the model takes.
    """
    missing = [name for name in COLUMNS if name not in table.columns]
    if MODEL not in table.columns or not missing:
        return table
    codes, models = pd.factorize(table[MODEL])
    if (codes < 0).any():
        what, row = f"{MODEL} is empty", int((codes < 0).argmax())
        raise InputError(what, where=f"table row {row + 1}", remedy="a Hugging Face name, or a config.json")
    found = []
    for code, model in enumerate(models):
        try:
            found.append(model_of(str(model)))
        except InputError as error:
            row = int((codes == code).argmax())
            raise InputError(error.what, where=f"table row {row + 1}", remedy=error.remedy) from None
    _check_lengths(table, np.array([each.positions for each in found])[codes])
    return table.assign(**{name: np.array([each.shape[name] for each in found])[codes] for name in missing})


def _check_lengths(table: pd.DataFrame, positions: npt.NDArray[np.int64]) -> None:
    if LENGTH not in table.columns:
        return
    lengths = pd.to_numeric(table[LENGTH], errors="coerce").to_numpy(dtype=float)
    if (longer := lengths > positions).any():
        row = int(longer.argmax())
        what = f"{lengths[row]:g} tokens, and {table[MODEL].iloc[row]} has {positions[row]} positions"
        raise InputError(what, where=f"table row {row + 1}", remedy=f"at most {positions[row]}")


def with_usual(table: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with the usual value in those of USUAL that it has no column of, and which these are."""
    missing = tuple(name for name in USUAL if name not in table.columns)
    return table.assign(**{name: DEFAULTS[name] for name in missing}), missing
