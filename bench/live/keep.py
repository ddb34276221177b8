"""Adds a live training to a dataset folder: its steps and readings first, then, in one step, the row that commits it.

    <folder>/  environment.json  devices.toml     of the first training; a later one adds what is new
               trials/train-<time>-<random>-r0.parquet    steps/...    power/...    meters/session.<the same>.parquet

What is killed before the row is there leaves at most files that no reader asks for.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from joulelaw.bench.dataset.columns import as_table
from joulelaw.bench.dataset.dataset import locked
from joulelaw.bench.dataset.exclusive import DatasetError
from joulelaw.bench.dataset.meters_table import meter_rows
from joulelaw.bench.dataset.parquet_groups import encoded
from joulelaw.bench.dataset.storage import Place, files
from joulelaw.bench.dataset.table_writer import TableWriter
from joulelaw.bench.dataset.tables import METERS
from joulelaw.bench.files import put, storage_errors, write_text
from joulelaw.bench.imported.folder import save_devices
from joulelaw.bench.live.measured import Measured
from joulelaw.bench.live.row import power_of, step_rows
from joulelaw.bench.trial.tables import TrialTables
from joulelaw.model.hardware import DeviceSpec, read_devices

# Another training may be adding its own row just now.
_PATIENCE_S = 60.0
_ASK_EVERY_S = 0.5


def keep(
    folder: Place,
    row: Mapping[str, Any],
    measured: Measured,
    environment: Mapping[str, Any],
    device: DeviceSpec | None,
    started_at: datetime,
) -> str:
    """Adds the training, and returns its trial_id. `device` is the catalogue entry that its reader will need, if any.

    Raises:
        InputError: the folder takes nothing, or another writes to it for a minute on end.
    """
    name = f"train-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(3)}-r0"
    _locked(folder, lambda: _add(folder, name, row, measured, environment, device, started_at))
    return name


def known_devices(folder: Place | None) -> list[DeviceSpec]:
    """The devices that a folder brings along already."""
    path = None if folder is None else folder / "devices.toml"
    return read_devices(path) if path is not None and path.is_file() else []


def _locked(folder: Place, work: Callable[[], None]) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with locked(folder):
                return work()
        except DatasetError:
            if time.monotonic() > until_s:
                raise
            time.sleep(_ASK_EVERY_S)


def _add(
    folder: Place,
    name: str,
    row: Mapping[str, Any],
    measured: Measured,
    environment: Mapping[str, Any],
    device: DeviceSpec | None,
    started_at: datetime,
) -> None:
    with storage_errors(folder):
        for each in ("trials", "meters"):
            (folder / each).mkdir(parents=True, exist_ok=True)
    if device is not None:
        others = [spec for spec in known_devices(folder) if spec.name != device.name]
        save_devices(folder, [*others, device])
    _note_environment(folder, environment)
    meters = {node.host: node.meter for node in measured.nodes}
    rows = as_table(meter_rows(meters, {}, {}, started_at), METERS, "meters")
    put(folder / "meters" / f"session.{name}.parquet", encoded(rows, METERS), folder)
    writer = TableWriter(folder, background=False)
    try:
        tables = TrialTables(folder, name, 0, writer=writer)
        tables.add_steps(list(step_rows(measured)))
        for node in measured.nodes:
            tables.add_power(node.host, power_of(node.power))
        tables.finish(row)
    finally:
        writer.close()


def _note_environment(folder: Place, environment: Mapping[str, Any]) -> None:
    """As a study does: the first as environment.json, others beside it where they differ."""
    text = json.dumps(environment, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    kept: Sequence[Place] = files(folder, "environment*.json")
    if any(path.read_text(encoding="utf-8") == text for path in kept):
        return
    write_text(folder / (f"environment.{len(kept)}.json" if kept else "environment.json"), text)
