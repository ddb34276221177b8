"""How much training: sequences and epochs, or optimizer steps -> the micro-steps of each rank.

As PyTorch's samplers and the Hugging Face Trainer count: each data-parallel rank takes ceil(N / ranks) sequences of an
epoch, in ceil(that / micro-batch) micro-batches, and the last optimizer step of an epoch takes what is left of them.
The last micro-batch of an epoch is counted as if it were full. Everything takes columns, too.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.model.columns import numbers
from joulelaw.model.hardware import Catalogue
from joulelaw.model.parallelism import FSDP_TP_DEGREE, STRATEGIES
from joulelaw.model.tables import check_configurations

Whole = npt.NDArray[np.int64]
MOST, MOST_EPOCHS = 10**12, 1e6


@dataclass(frozen=True)
class Training:
    """What is to be trained: `dataset_size` sequences `epochs` times, or so many optimizer `steps`.

    Raises:
        InputError: both or neither, or a number that cannot be; `where` is training.dataset_size, .epochs or .steps.
    """

    dataset_size: int | None = None
    epochs: float | None = None
    """With dataset_size; None: one."""
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.dataset_size is None) == (self.steps is None):
            what = "missing" if self.steps is None else "both sequences and steps"
            remedy = "say how much is trained: dataset_size (sequences) and epochs, or steps of the optimizer"
            raise InputError(what, where="training.dataset_size", remedy=remedy)
        if self.steps is not None and self.epochs is not None:
            raise InputError("both epochs and steps", where="training.epochs", remedy="leave one of them out")
        for name in ("dataset_size", "steps"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MOST:
                raise InputError(f"{value} is out of range", where=f"training.{name}", remedy=f"1 to {MOST:.0e}")
        if self.epochs is not None and not 0 < self.epochs <= MOST_EPOCHS:
            remedy = f"more than 0, and at most {MOST_EPOCHS:.0e}"
            raise InputError(f"{self.epochs:g} is out of range", where="training.epochs", remedy=remedy)

    def micro_steps(
        self, micro_batch_size: npt.ArrayLike, grad_accumulation: npt.ArrayLike, data_parallel: npt.ArrayLike
    ) -> Whole:
        """Micro-steps of each rank, over the whole training."""
        k = np.asarray(grad_accumulation, dtype=np.int64)
        if self.steps is not None:
            return np.asarray(self.steps * k + np.zeros_like(data_parallel, dtype=np.int64))
        return _ceil(self._epochs * self._per_epoch(micro_batch_size, data_parallel))

    def optimizer_steps(
        self, micro_batch_size: npt.ArrayLike, grad_accumulation: npt.ArrayLike, data_parallel: npt.ArrayLike
    ) -> Whole:
        """Optimizer steps over the whole training."""
        k = np.asarray(grad_accumulation, dtype=np.int64)
        if self.steps is not None:
            return np.asarray(self.steps + np.zeros_like(k))
        return _ceil(self._epochs * -(-self._per_epoch(micro_batch_size, data_parallel) // k))

    @property
    def _epochs(self) -> float:
        return 1.0 if self.epochs is None else self.epochs

    def _per_epoch(self, micro_batch_size: npt.ArrayLike, data_parallel: npt.ArrayLike) -> Whole:
        """Micro-steps of each rank in one epoch."""
        assert self.dataset_size is not None
        of_rank = -(-self.dataset_size // np.asarray(data_parallel, dtype=np.int64))
        return np.asarray(-(-of_rank // np.asarray(micro_batch_size, dtype=np.int64)))


def with_micro_steps(table: pd.DataFrame, training: Training, catalogue: Catalogue) -> pd.DataFrame:
    """The table with the micro-steps of that training in every row, whatever it had there.

    Raises:
        InputError: as `check_configurations`, for rows whose configuration cannot be.
    """
    checked = check_configurations(table.assign(micro_steps=1), catalogue)
    gpus, strategies = checked["gpu_count"].to_numpy(), checked["strategy"].astype(str).to_numpy()
    degree = numbers(checked, "tensor_parallel", FSDP_TP_DEGREE).astype(np.int64)
    ranks = np.ones(len(checked), dtype=np.int64)
    for name in np.unique(strategies):
        rows = strategies == name
        ranks[rows] = _ranks(name, gpus[rows], degree[rows])
    return table.assign(
        micro_steps=training.micro_steps(checked["micro_batch_size"], checked["grad_accumulation"], ranks)
    )


def data_parallel_degree(strategy: str, gpu_count: int, tensor_parallel: int = 1) -> int:
    """Ranks, or groups of tensor-parallel ranks, that each train on their own sequences.

    `tensor_parallel` is asked for with fsdp_tp alone: tp splits each layer over all devices.
    """
    return int(_ranks(strategy, np.asarray(gpu_count), np.asarray(tensor_parallel)))


def _ranks(strategy: str, gpus: Whole, tensor_parallel: Whole) -> Whole:
    spread = STRATEGIES[strategy]
    if not spread.data_parallel:
        return np.ones_like(gpus)
    return gpus // tensor_parallel if spread.tensor_parallel else gpus


def _ceil(values: npt.ArrayLike) -> Whole:
    """Upwards to whole numbers, but for what rounding alone adds."""
    numbers = np.asarray(values, dtype=float)
    near = np.rint(numbers)
    return np.asarray(np.where(np.isclose(numbers, near, rtol=1e-12, atol=0), near, np.ceil(numbers)), dtype=np.int64)
