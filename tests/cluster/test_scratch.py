"""Temporary folders end with their process, however it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from joulelaw.cluster.scratch import ScratchFolder, remove_abandoned

ROOT = Path(__file__).resolve().parent.parent.parent
OWNER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from joulelaw.cluster.scratch import ScratchFolder
scratch = ScratchFolder.create("jl-test-", 500)
(scratch.path / "session").mkdir()
(scratch.path / "session" / "file").touch()
print(scratch.path, flush=True)
sys.stdin.readline()
"""


def test_what_a_killed_process_left_is_removed_by_the_next_start_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        left = Path(owner.stdout.readline().strip())
        assert left.parent == tmp_path
        others = [tmp_path / "jl-test-notes", tmp_path / "jl-other-session"]
        for other in others:
            other.mkdir()
        remove_abandoned(tmp_path, "jl-test-")
        assert (left / "session" / "file").exists(), "its process lives"
        owner.kill()
    remove_abandoned(tmp_path, "jl-test-")
    assert not left.exists()
    assert all(other.exists() for other in others)


def test_a_path_too_long_for_a_socket_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 20)))
    scratch = ScratchFolder.create("jl-test-", 60)
    try:
        assert len(str(scratch.path)) <= 60
    finally:
        scratch.remove()
    assert not scratch.path.exists()
