"""The readings of a measured window while it is open: kept, written down where asked, and searched for ticks."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

from joulelaw.bench.dataset.columns import as_table
from joulelaw.bench.dataset.growing_table import GrowingTable
from joulelaw.bench.dataset.parquet_groups import encoded
from joulelaw.bench.dataset.tables import POWER
from joulelaw.bench.energy.readings import power_table
from joulelaw.bench.files import StorageError, check_folder, check_target, put
from joulelaw.cluster.power.meter import Reading
from joulelaw.cluster.power.sampler import Sampler

# Readings become a table in lots of so many: arrays take a tenth of their memory.
LOT = 4096
NODE = "local"
_TICKS_KEPT = 256


class Tick(NamedTuple):
    """A counter moved on between two readings: the middle, and how far apart they were."""

    time_ns: int
    width_s: float


class Store(Protocol):
    """Where readings are written as they come. `problem`: why they are not any more; the joules do not need them."""

    problem: str

    @property
    def trial_id(self) -> str:
        """What its rows are called in the table."""
        ...

    def add(self, part: pa.Table) -> None: ...
    def finish(self) -> None: ...


class Keeper:
    """Takes the readings of a sampler, from any thread, and keeps all of them; see `parts`."""

    def __init__(self, sampler: Sampler, store: Store | None = None) -> None:
        self.parts: list[pa.Table] = []  # rows of the `power` table, without its key and node
        self._sampler, self._store = sampler, store
        self._waiting: list[Reading] = []
        self._ticks: dict[str, deque[Tick]] = {domain: deque(maxlen=_TICKS_KEPT) for domain in sampler.meter.covers}
        self._last_ns: dict[str, int] = {}
        self._counters: dict[str, Reading] = {}
        self._lock = threading.Lock()

    def collect(self) -> None:
        """Takes what the sampler has read since the last call."""
        with self._lock:
            for reading in self._sampler.drain():
                self._waiting.append(reading)
                self._last_ns[reading.device_uuid] = reading.time_ns
                if reading.device_uuid in self._ticks and reading.energy_counter_j is not None:
                    self._note_tick(reading, reading.energy_counter_j)
            if len(self._waiting) >= LOT or (self._store and self._waiting):
                self._put()

    def finish(self) -> None:
        """Takes the last readings, and has all of them written."""
        self.collect()
        with self._lock:
            if self._waiting:
                self._put()
            if self._store is not None:
                self._write(self._store, self._store.finish)
            self._store = None

    def ticking_domain(self) -> str | None:
        """The first of the meter's domains whose counter was seen to move on."""
        return next((domain for domain, ticks in self._ticks.items() if ticks), None)

    def ticks(self, domain: str | None) -> list[Tick]:
        """The latest of them, in order."""
        with self._lock:
            return list(self._ticks.get(domain or "", ()))

    def wait_until(self, time_ns: int, patience_s: float) -> None:
        """Collects until every domain was read after a time; no longer than `patience_s` beyond it."""
        while min((self._last_ns.get(domain, 0) for domain in self._ticks), default=0) <= time_ns:
            if time.monotonic_ns() > time_ns + patience_s * 1e9:
                return
            time.sleep(0.01)
            self.collect()

    def _note_tick(self, reading: Reading, counter_j: float) -> None:
        before = self._counters.get(reading.device_uuid)
        self._counters[reading.device_uuid] = reading
        if before is not None and before.energy_counter_j is not None and counter_j > before.energy_counter_j:
            width_ns = reading.time_ns - before.time_ns
            self._ticks[reading.device_uuid].append(Tick(before.time_ns + width_ns // 2, width_ns / 1e9))

    def _put(self) -> None:
        part = power_table(self._sampler.meter.name, self._waiting)
        self._waiting = []
        self.parts.append(part)
        if self._store is not None:
            self._write(self._store, partial(self._store.add, part))

    def _write(self, store: Store, write: Callable[[], None]) -> None:
        """A disk that is full must not cost the joules of hours."""
        try:
            write()
        except StorageError as error:
            store.problem = str(error)
            self._store = None


class FolderStore:
    """A folder's `power` table, readable at any moment; `bench.stored_power` gives the joules of any stretch of it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.problem = ""
        self._folder, self._name = folder, name
        self._table: GrowingTable | None = None

    @property
    def trial_id(self) -> str:
        return self._name

    def add(self, part: pa.Table) -> None:
        if self._table is None:  # what is refused before its first reading leaves no folder
            self._table = GrowingTable(self._folder / "power", f"{self._name}.{NODE}", POWER)
        self._table.append(_keyed(part, self.trial_id))

    def finish(self) -> None:
        if self._table is not None:
            self._table.flush()


class FileStore:
    """One Parquet file, written whole at the end."""

    def __init__(self, path: Path) -> None:
        self.problem = ""
        self._path = path
        self._parts: list[pa.Table] = []

    @property
    def trial_id(self) -> str:
        return "meter-r0"

    def add(self, part: pa.Table) -> None:
        self._parts.append(as_table(_keyed(part, self.trial_id), POWER, "power"))

    def finish(self) -> None:
        whole = pa.concat_tables(self._parts) if self._parts else POWER.empty_table()
        put(self._path, encoded(whole, POWER))


def store_at(out: Path) -> Store:
    """A file where the name ends in .parquet, a folder otherwise. StorageError, now, where it cannot be written."""
    if out.suffix == ".parquet" and not out.is_dir():
        check_target(out)
        return FileStore(out)
    check_folder(out)
    return FolderStore(out, time.strftime("meter-%Y%m%dT%H%M%S-r0", time.gmtime()))


def _keyed(part: pa.Table, name: str) -> dict[str, Sequence[object] | str | int]:
    return {**dict(zip(part.column_names, part.columns, strict=True)), "trial_id": name, "attempt": 0, "node": NODE}
