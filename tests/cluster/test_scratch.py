"""Temporary folders end with their process, however it ends."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from joulelaw.cluster.ranks.scratch import ScratchFolder, remove_abandoned

ROOT = Path(__file__).resolve().parent.parent.parent
OWNER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from joulelaw.cluster.ranks.scratch import ScratchFolder
scratch = ScratchFolder.create("jl-test-", 500)
(scratch.path / "session").mkdir()
(scratch.path / "session" / "file").touch()
print(scratch.path, flush=True)
sys.stdin.readline()
"""


DATASET = ("lock", "plan.json", "trials/a.parquet")


def like_a_dataset(folder: Path) -> None:
    """What a finished study leaves in its folder, which a user may call as we call ours."""
    for name in DATASET:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_what_a_killed_process_left_is_removed_by_the_next_start_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        left = Path(owner.stdout.readline().strip())
        assert left.parent == tmp_path
        others = [tmp_path / "jl-test-my-notes", tmp_path / "jl-other-a_folder"]
        for other in others:
            like_a_dataset(other)
        remove_abandoned(tmp_path, "jl-test-")
        assert (left / "session" / "file").exists(), "its process lives"
        owner.kill()
    remove_abandoned(tmp_path, "jl-test-")
    assert not left.exists()
    assert all((other / file).exists() for other in others for file in DATASET)


def test_a_start_killed_before_it_could_lock_its_folder_leaves_an_empty_one_that_is_removed(tmp_path: Path) -> None:
    (tmp_path / "jl-test-12345678").mkdir()
    remove_abandoned(tmp_path, "jl-test-")
    assert not (tmp_path / "jl-test-12345678").exists()


def test_a_folder_taken_for_abandoned_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process starts at the worst moments: before the lock file is there, and before it is locked."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    meddled: list[str] = []

    def meddling(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name not in meddled:
                meddled.append(name)
                remove_abandoned(tmp_path, "jl-test-")
            return real(*arguments)

        return call

    monkeypatch.setattr("os.open", meddling("open", os.open))
    monkeypatch.setattr("fcntl.flock", meddling("flock", fcntl.flock))
    scratch = ScratchFolder.create("jl-test-", 500)
    assert sorted(meddled) == ["flock", "open"]
    remove_abandoned(tmp_path, "jl-test-")
    assert list(tmp_path.iterdir()) == [scratch.path], "one folder, which is locked now"
    scratch.remove()


@pytest.mark.parametrize("folder", ["long" * 20, "ü" * 20])
def test_a_path_too_long_for_a_socket_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """The kernel counts bytes, not characters."""
    most_bytes = len(os.fsencode(tmp_path)) + 40
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / folder))
    scratch = ScratchFolder.create("jl-test-", most_bytes)
    try:
        assert scratch.path.parent == Path("/tmp")
    finally:
        scratch.remove()
    assert not scratch.path.exists()
