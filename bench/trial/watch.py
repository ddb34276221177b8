"""What may be wrong with a trial that runs on: no end in sight, a loss that is no number, a GPU that is gone."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from joulelaw.cluster.power.meter import GPU_LOST

# So many losses in a row that are not finite, of one rank, end a trial: its weights are gone, and the steps are no
# training. One alone may be a batch's. A step that fp16's loss scaling leaves out has a finite loss: it is the scaled
# gradient that overflows, and the loss is told before it is scaled.
NAN_STEPS = 5


class LossWatch:
    """Counts each rank's last losses that are not finite."""

    def __init__(self) -> None:
        self._in_a_row: dict[int, int] = {}

    def take(self, rank: int, losses: Iterable[float | None]) -> str:
        """What there is to say against going on; empty while there is nothing. None is a loss that was not read."""
        for loss in losses:
            if loss is not None:
                self._in_a_row[rank] = 0 if math.isfinite(loss) else self._in_a_row.get(rank, 0) + 1
                if self._in_a_row[rank] >= NAN_STEPS:
                    return f"the loss of rank {rank} was not finite in {NAN_STEPS} steps in a row"
        return ""


def lost_gpus(readings: pa.Table) -> Sequence[Any]:
    """The devices whose loss these readings tell of, by UUID: the driver has lost them."""
    if readings["error"].null_count == len(readings):
        return []
    lost = readings.filter(pc.fill_null(pc.starts_with(readings["error"].cast(pa.string()), GPU_LOST), False))
    found: Sequence[Any] = lost["device_uuid"].unique().to_pylist()
    return found
