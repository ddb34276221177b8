"""Read the timings of operations that datasets hold, in their folder `operations`. Loads neither torch nor Ray."""

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa

from joulelaw.bench.dataset.storage import Place, files
from joulelaw.bench.dataset.table_files import read_files
from joulelaw.bench.dataset.tables import OPERATIONS


def read_operations(folders: Sequence[Place]) -> pd.DataFrame | None:
    """Every timing of these datasets, one row a timing, in the columns of OPERATIONS; None where there is none."""
    paths = [path for folder in folders for path in files(folder / "operations", "*.parquet")]
    if not paths:
        return None
    frame: pd.DataFrame = pa.concat_tables(read_files(paths, OPERATIONS)).to_pandas()
    return frame
