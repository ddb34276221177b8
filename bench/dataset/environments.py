"""What the runs of a study ran on: environment.json of the first, environment.<n>.json of each that differs from all.

A node that joins while a run goes on is added to the file of that run, which is there whole at any moment.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from joulelaw.bench.dataset.storage import Place, files
from joulelaw.bench.files import write_text

_FIRST = "environment.json"
_JOINED = "joined_at"


class Environments:
    """The environments in a dataset's folder."""

    def __init__(self, folder: Place) -> None:
        self._folder = folder
        self._path: Place | None = None
        self._now: dict[str, Any] = {}

    def begin(self, environment: Mapping[str, Any]) -> None:
        """That of a run that begins, as JSON-able data; kept where it is a new one."""
        first = self._folder / _FIRST
        kept = [*([first] if first.is_file() else []), *files(self._folder, "environment.*.json")]
        for path in kept:
            with suppress(ValueError):
                found = json.loads(path.read_text(encoding="utf-8"))
                if as_json(_at_start(found)) == as_json(environment):
                    self._path, self._now = path, found
                    return
        self._path = self._folder / f"environment.{len(kept)}.json" if kept else first
        self._now = dict(environment)
        write_text(self._path, as_json(self._now))

    def add(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Nodes that have joined this run, with the time of now (`joined_at`, UTC)."""
        known = {node["node_id"] for node in self._now.get("nodes", [])}
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        new = [{**node, _JOINED: at} for node in nodes if node["node_id"] not in known]
        if new and self._path is not None:
            self._now = {**self._now, "nodes": [*self._now.get("nodes", []), *new]}
            write_text(self._path, as_json(self._now))


def _at_start(environment: Any) -> Any:
    if not isinstance(environment, dict) or not isinstance(nodes := environment.get("nodes"), list):
        return environment
    return {**environment, "nodes": [node for node in nodes if _JOINED not in node]}


def as_json(values: object) -> str:
    """Text that people can read, and that differs only where the values do."""
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
