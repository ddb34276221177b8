"""What a study does around its trials: signals, and what is seen to before anything is written."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from joulelaw import InputError
from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.plan.devices import with_assumed
from joulelaw.bench.plan.making import make_plan
from joulelaw.bench.spec.sweep_file import load_sweep
from joulelaw.bench.study import folder as opening
from joulelaw.bench.study import study as sweep
from joulelaw.bench.study.folder import default_folder, warning_of_copy
from joulelaw.bench.trial.tables import Committed
from joulelaw.cluster.failures import ForkServerError
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.model.hardware import Catalogue
from tests.bench.studies import TINY
from tests.bench.texts import study_folder


class RayLike:
    """A cluster whose connection sets a SIGTERM handler of its own, as ray.init does, and that can do nothing else."""

    nodes = ()
    problem: ForkServerError | None = None

    @classmethod
    def connect(cls, **_: Any) -> Self:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        return cls()

    def wait_first(self) -> None:
        if self.problem:
            raise self.problem

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.setattr(sweep, "machines", lambda alone: RayLike)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path / "tiny.yaml"
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_ends_a_study_as_ctrl_c_does_whatever_handler_ray_sets(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "study_catalogue", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
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


CORE = Node("a", "0a", (Device("CPU-0", "One Core", 0, "cpu", 2**33, (0,), None, ""),), 2**34, 1, "One Core")
BERT = """{"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2,
 "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 64}"""
WITH_FILES = """\
schema: 1
name: tiny
grids: [{checkpoint: saved, sequence_length: 32, micro_batch_size: [1, 2]}]
data: {path: texts.csv, tokenizer: tokenizer}
"""


@pytest.mark.parametrize("changed", ["texts.csv", "saved/config.json", "saved/model.safetensors"])
def test_a_finished_study_is_another_once_its_files_have_changed(
    changed: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = study_folder(tiny.parent), tiny.parent / "out"
    tiny.write_text(WITH_FILES)
    (root / "saved").mkdir()
    (root / "saved" / "config.json").write_text(BERT)
    (root / "saved" / "model.safetensors").write_bytes(b"weights")
    catalogue, _ = with_assumed(Catalogue.load(), [CORE])
    loaded = load_sweep(tiny)
    plan = make_plan(loaded, [CORE], catalogue)
    Dataset.create(out, sweep=loaded.text, plan=plan.to_dict(), environment={}).close()
    done = {trial.trial_id: Committed("done", 0) for trial in plan.trials}
    monkeypatch.setattr(sweep, "committed_trials", lambda folder: done)
    monkeypatch.setattr(opening, "study_catalogue", lambda *_: (catalogue, ""))
    monkeypatch.setattr(RayLike, "nodes", (CORE,))
    assert sweep.run_study(tiny, out).already_done == 2
    with (root / changed).open("a") as file:
        file.write("\n" if changed.endswith("json") else "good film,good\n")
    with pytest.raises(InputError, match="the folder holds another study"):
        sweep.run_study(tiny, out)
