"""Long tables in blocks of rows: each fits the processor's caches, and a few are worked on at once."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

BLOCK_ROWS = 2**17
MOST_THREADS = 4  # more would wait for each other: only NumPy's loops run at the same time


def in_blocks(work: Callable[[pd.DataFrame], pd.DataFrame], table: pd.DataFrame) -> pd.DataFrame:
    """What `work` makes of the table's rows, each block of which it sees as a table of its own (index 0, 1, ...)."""
    if len(table) <= BLOCK_ROWS:
        return work(table)
    blocks = [table.iloc[at : at + BLOCK_ROWS].reset_index(drop=True) for at in range(0, len(table), BLOCK_ROWS)]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS)) as threads:
        return pd.concat(threads.map(work, blocks), ignore_index=True)
