"""Long tables in blocks of rows, a few worked on at once; and linear algebra that no thread of BLAS slows down."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import pandas as pd
from threadpoolctl import threadpool_limits

Given = TypeVar("Given")
Made = TypeVar("Made")

BLOCK_ROWS = 2**18
MOST_THREADS = 4  # more would wait for each other: only NumPy's loops run at the same time


def in_blocks(work: Callable[[pd.DataFrame], pd.DataFrame], table: pd.DataFrame) -> pd.DataFrame:
    """What `work` makes of the table's rows, each block of which it sees as a table of its own (index 0, 1, ...)."""
    if len(table) <= BLOCK_ROWS:
        return work(table)
    blocks = [table.iloc[at : at + BLOCK_ROWS].reset_index(drop=True) for at in range(0, len(table), BLOCK_ROWS)]
    return pd.concat(at_once(work, blocks), ignore_index=True)


def at_once(work: Callable[[Given], Made], given: Sequence[Given]) -> list[Made]:
    """What `work` makes of each, in their order; a few are worked on at the same time."""
    with one_blas_thread(), ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS)) as threads:
        return list(threads.map(work, given))


def one_blas_thread() -> AbstractContextManager[Any]:
    """Products of a few dozen columns gain nothing from threads, and wait long for each other on a busy machine."""
    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits
