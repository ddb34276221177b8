"""The files that a study's ranks read: every node has them before it is of use."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StudyFiles:
    """Files that ranks read: their folder here, SHA-256 by path in the folder, and this process's working folder."""

    root: Path
    sha256: Mapping[str, str]
    working: Path
