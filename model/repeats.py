"""Tables whose rows repeat each other: each distinct row is worked on once, and stands for all that are like it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.columns import distinct

SAMPLE_ROWS = 4096
ENOUGH = 0.5  # of a sample's rows repeat another of it: finding the others then costs less than it saves


def once_each(work: Callable[[pd.DataFrame], pd.DataFrame], table: pd.DataFrame) -> pd.DataFrame:
    """What `work`, which looks at a row alone, makes of the table (index 0, 1, ...): rows in the table's order."""
    sample = table.iloc[:: -(-len(table) // SAMPLE_ROWS)]
    if sample.duplicated().mean() < ENOUGH:
        return work(table)
    first, which = distinct([_as_number(table[name]) for name in table.columns])
    return work(table.iloc[first].reset_index(drop=True)).take(which).reset_index(drop=True)


def _as_number(column: pd.Series) -> npt.NDArray[np.int64]:
    """The column, or numbers that are equal where its values are."""
    if column.dtype == np.int64:
        return np.asarray(column, dtype=np.int64)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return np.asarray(column.cat.codes, dtype=np.int64)
    return np.asarray(pd.factorize(column, use_na_sentinel=False)[0], dtype=np.int64)
