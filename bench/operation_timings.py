"""Read the timings of operations that datasets hold, in their folder `operations`. Loads neither torch nor Ray."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from joulelaw.bench.table_files import read_file
from joulelaw.bench.tables import OPERATIONS


def read_operations(folders: Sequence[Path]) -> pd.DataFrame | None:
    """Every timing of these datasets, one row a timing, in the columns of OPERATIONS; None where there is none."""
    paths = [path for folder in folders for path in sorted((folder / "operations").glob("*.parquet"))]
    if not paths:
        return None
    frame: pd.DataFrame = pa.concat_tables([read_file(path, OPERATIONS) for path in paths]).to_pandas()
    return frame
