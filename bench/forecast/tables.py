"""Tables as people have them: a model by its name instead of six columns of sizes, and what stands for one not said."""

import numpy as np
import pandas as pd

from joulelaw import InputError
from joulelaw.bench.forecast.models import SHAPE, shape_of
from joulelaw.bench.forecast.run import DEFAULTS

MODEL = "model"
COLUMNS = ("model_family", *SHAPE)
# Of a run to be forecast; a measured one says how it was done.
USUAL = ("gpu_count", "node_count", "grad_accumulation")


def with_shapes(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns of the models' shapes that it lacks, by its column `model`, where it has one.

    Raises:
        InputError: where="table row N": a name that `shape_of` refuses, or none.
    """
    missing = [name for name in COLUMNS if name not in table.columns]
    if MODEL not in table.columns or not missing:
        return table
    codes, models = pd.factorize(table[MODEL])
    if (codes < 0).any():
        what, row = f"{MODEL} is empty", int((codes < 0).argmax())
        raise InputError(what, where=f"table row {row + 1}", remedy="a Hugging Face name, or a config.json")
    shapes = []
    for code, model in enumerate(models):
        try:
            shapes.append(shape_of(str(model)))
        except InputError as error:
            row = int((codes == code).argmax())
            raise InputError(error.what, where=f"table row {row + 1}", remedy=error.remedy) from None
    return table.assign(**{name: np.array([shape[name] for shape in shapes])[codes] for name in missing})


def with_usual(table: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with the usual value in those of USUAL that it has no column of, and which these are."""
    missing = tuple(name for name in USUAL if name not in table.columns)
    return table.assign(**{name: DEFAULTS[name] for name in missing}), missing
