"""What a sampler has read and the driver has not yet said that it has: an answer that is lost is given again."""

from collections import deque

import pyarrow as pa

from joulelaw.cluster.streams.metering import readings_batch


class Outbox:
    """Lots of readings, numbered from 1, that wait to be acknowledged.

    At most `capacity` readings wait, and the newest lot in any case; the oldest lots go first and are counted.
    """

    def __init__(self, capacity: int) -> None:
        self.number = 0  # of the newest lot
        self.dropped = 0
        self._capacity = capacity
        self._lots: deque[tuple[int, pa.RecordBatch]] = deque()
        self._waiting = 0

    def put(self, readings: pa.RecordBatch) -> None:
        """Adds a lot, unless it is empty."""
        if not len(readings):
            return
        self.number += 1
        self._lots.append((self.number, readings))
        self._waiting += len(readings)
        while self._waiting > self._capacity and len(self._lots) > 1:
            self.dropped += self._remove_oldest()

    def acknowledge(self, number: int) -> None:
        """Forgets the lots up to this one: they have arrived."""
        while self._lots and self._lots[0][0] <= number:
            self._remove_oldest()

    def waiting(self) -> pa.RecordBatch:
        """All that is not acknowledged, in order."""
        return pa.concat_batches([readings_batch("", []), *(lot for _, lot in self._lots)])

    def _remove_oldest(self) -> int:
        _, readings = self._lots.popleft()
        self._waiting -= len(readings)
        return len(readings)
