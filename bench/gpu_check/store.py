"""What was found, part by part, in one JSON file a step: written as it comes, so that another run can go on."""

import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joulelaw import InputError
from joulelaw.bench.files import write_text
from joulelaw.bench.gpu_check.card import Card

# A part that failed is tried once more: by then a machine that was in its way may be gone.
MOST_TRIES = 2


@dataclass(frozen=True)
class Store:
    """A folder of results of one device. A dry run's say so in every file."""

    folder: Path
    card: Card

    def open(self) -> None:
        """Raises InputError where the folder holds another device's results, or those of a dry run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.folder.glob("*.json")):
            found = _read(path)
            same = (found.get("device"), found.get("dry_run")) == (self.card.device.model, self.card.dry)
            if "parts" in found and not same:
                what = f"results of {found.get('device')}{' (a dry run)' if found.get('dry_run') else ''}"
                raise InputError(what, where=str(path), remedy="name another folder with --into")

    def parts(self, step: str) -> dict[str, dict[str, Any]]:
        """What is known of each part of a step."""
        path = self._path(step)
        parts: dict[str, dict[str, Any]] = _read(path)["parts"] if path.is_file() else {}
        return parts

    def values(self, step: str) -> dict[str, dict[str, Any]]:
        """The parts of a step that succeeded."""
        return {name: part for name, part in self.parts(step).items() if "error" not in part}

    def is_over(self, step: str, part: str) -> bool:
        """Whether it has succeeded, or has failed too often."""
        found = self.parts(step).get(part)
        return found is not None and ("error" not in found or found["tries"] >= MOST_TRIES)

    def forget_failures(self) -> None:
        """Parts that failed are tried anew: what was in their way has been put right."""
        for path in sorted(self.folder.glob("*.json")):
            content = _read(path)
            if "parts" in content:
                known = {name: part for name, part in content["parts"].items() if "error" not in part}
                write_text(path, json.dumps({**content, "parts": known}, indent=1) + "\n")

    def put(self, step: str, part: str, values: Mapping[str, Any]) -> None:
        """Adds what was found; numbers that are not finite become null."""
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._write(step, part, {**values, "at": at})

    def fail(self, step: str, part: str, error: str) -> None:
        """Notes that a part has failed."""
        tries = self.parts(step).get(part, {}).get("tries", 0) + 1
        self._write(step, part, {"error": error, "tries": tries})

    def _write(self, step: str, part: str, values: Mapping[str, Any]) -> None:
        content = {
            "step": step,
            "device": self.card.device.model,
            "dry_run": self.card.dry,
            "driver": self.card.device.driver,
            "power_limit_w": self.card.device.power_limit_w,
            "parts": {**self.parts(step), part: _plain(values)},
        }
        write_text(self._path(step), json.dumps(content, indent=1, allow_nan=False) + "\n")

    def _path(self, step: str) -> Path:
        return self.folder / f"{step}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError("not JSON", where=str(path), remedy="delete it: its parts are then measured anew") from None
    return content


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
