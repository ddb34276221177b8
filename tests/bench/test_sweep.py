"""What a study does around its trials: signals, and what is seen to before anything is written."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from joulelaw.bench import sweep
from joulelaw.bench.study_folder import default_folder, warning_of_copy
from joulelaw.cluster.failures import ForkServerError
from tests.bench.studies import TINY


class RayLike:
    """A cluster whose connection sets a SIGTERM handler of its own, as ray.init does, and that can do nothing else."""

    nodes = ()
    meters: dict[str, Any] = {}  # noqa: RUF012
    problem: ForkServerError | None = None

    @classmethod
    def connect(cls, **_: Any) -> Self:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        return cls()

    def wait_ready(self) -> None:
        if self.problem:
            raise self.problem

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.setattr(sweep, "Cluster", RayLike)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path / "tiny.yaml"
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_ends_a_study_as_ctrl_c_does_whatever_handler_ray_sets(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "study_catalogue", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        sweep.run_study(tiny, tiny.parent / "out")


def test_nodes_that_cannot_fork_are_told_before_a_trial_fails_and_stays_so(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RayLike, "problem", ForkServerError("the fork server cannot import 'deepspeed'"))
    with pytest.raises(ForkServerError, match="deepspeed"):
        sweep.run_study(tiny, tiny.parent / "out")
    assert not (tiny.parent / "out").exists()


@pytest.mark.parametrize(("submitted", "into"), [(True, None), (True, "lasting"), (False, None)])
def test_a_submitted_job_is_told_where_its_results_would_not_last(
    submitted: bool, into: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ray job submit --working-dir .` unpacks a copy, in which a relative folder, the default one too, then lies."""
    copy = tmp_path / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    if submitted:
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    folder = default_folder((), "tiny") if into is None else tmp_path / into
    warning = warning_of_copy(folder)
    assert bool(warning) is (submitted and into is None)
    assert not warning or (str(copy / folder) in warning and "--into" in warning)
