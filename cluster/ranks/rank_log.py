"""Where a rank's log lies: in the study's folder where its node has that, else on the node, and its end travels."""

from dataclasses import replace
from pathlib import Path

from joulelaw.cluster.ranks.rank import RankSpec

END_BYTES = 256 << 10


def folder_mark(folder: Path) -> int:
    """Tells a folder from another machine's of the same name: its inode. Makes it where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder.stat().st_ino


def placed(spec: RankSpec, mark: int, scratch: Path, number: int) -> tuple[RankSpec, Path | None]:
    """The spec with a log path that is good on this node, and that path if it is not the study's own folder."""
    folder = Path(spec.log_path).parent
    try:
        if folder.stat().st_ino == mark:
            return spec, None
    except OSError:  # not on this node
        pass
    own = scratch / f"rank{spec.rank}-{number}.log"
    return replace(spec, log_path=str(own)), own


def taken(path: Path, most_bytes: int = END_BYTES) -> str:
    """The end of a log, which is removed. Empty where there is none, as when its rank never began."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - most_bytes))
            text = log.read().decode(errors="replace")
        path.unlink()
    except OSError:
        return ""
    return text if size <= most_bytes else f"[the first {size - most_bytes:,} bytes were left on the node]\n{text}"
