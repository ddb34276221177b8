"""What a study shows to others and leaves behind: no open port, no secret; and what it takes from them: no code."""

import json
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from joulelaw import InputError
from joulelaw.bench.cli import main
from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.plan.devices import with_assumed
from joulelaw.bench.plan.making import make_plan
from joulelaw.bench.plan.plan import Plan
from joulelaw.bench.spec.sweep_file import load_sweep
from joulelaw.bench.study.folder import saved_plan
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.model.hardware import Catalogue
from tests.bench.factories import configurations, new_dataset, trial_row
from tests.bench.studies import Running
from tests.bench.test_spec_files import BERT, FROM_CHECKPOINT, save, write

SECRET = "hush-4711"
# `alone` needs none of these; a rank, a message or a saved file might carry them along.
SECRETS = dict.fromkeys(("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR"), SECRET)
PAIR = """\
schema: 1
name: pair
seed: 3
defaults: {vocab_size: 1000, hidden_size: 64, sequence_length: 32, micro_batch_size: 1, num_layers: 1}
grids:
  - {strategy: ddp, gpu_count: 2}
window: {warmup_steps: 2, min_steps: 20, min_s: 2.0, max_s: 30, tolerance: 0}
hold_out: {by: case, fraction: 0.0}
metering: {meter: estimate, cpu_w_per_core: 10.0, idle_s: 0}
"""


def listeners(pids: list[int]) -> set[str]:
    """The addresses that processes listen at, over any network."""
    found = set()
    for pid in pids:
        try:
            connections = psutil.Process(pid).net_connections("inet")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        found |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    return found


def test_a_study_listens_to_nobody_elsewhere_and_keeps_secrets(tmp_path: Path) -> None:
    """Its driver, fork server and ranks, from the start to the end of a trial on two devices."""
    (tmp_path / "sweep.yaml").write_text(PAIR)
    running = Running("run", "sweep.yaml", "--into", "into", "--alone", cwd=tmp_path, env=SECRETS)
    heard: set[str] = set()
    environments: list[bytes] = []
    while running.process.poll() is None:
        heard |= listeners([running.process.pid, *running.marked()])
        for pid in running.ranks():
            try:
                environments.append(Path(f"/proc/{pid}/environ").read_bytes())
            except OSError:
                continue
        time.sleep(0.05)
    ended = running.end()
    assert ended.last["done"] == 2, ended.errors
    assert environments
    assert not any(SECRET.encode() in each for each in environments)
    assert heard, "the ranks' rendezvous was seen"
    assert heard <= {"127.0.0.1", "::1"}
    assert SECRET not in ended.errors + str(ended.last)
    files = [path for path in (tmp_path / "into").rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in files)
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self._path),)


def poisoned(table: pa.Table, pickled: bytes) -> pa.Table:
    """A table that asks its reader, in each place where Arrow and pandas keep what they know, to unpickle."""
    extension = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickled}
    fields = [field.with_metadata({**(field.metadata or {}), **extension}) for field in table.schema]
    whole = {**(table.schema.metadata or {}), b"pandas": pickled, b"ARROW:schema": pickled}
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields, metadata=whole))


def test_no_data_file_that_others_made_runs_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "made"
    pickled = pickle.dumps(Payload(made))
    pickle.loads(pickled)
    made.unlink()  # it would
    with new_dataset(tmp_path / "study") as dataset:
        dataset.start_trial("a-r0").finish(trial_row(next(configurations())))
    (trial,) = (tmp_path / "study" / "trials").glob("*.parquet")
    table = pq.read_table(trial)
    for name, file in (("poisoned", trial), ("imported", tmp_path / "table.parquet")):
        pq.write_table(poisoned(table, pickled), file, store_schema=name == "imported")
    for ending in ("csv", "parquet", "pkl", "npy"):
        (tmp_path / f"pickled.{ending}").write_bytes(pickled)
    (tmp_path / "law.json").write_bytes(pickled)
    study, into = str(tmp_path / "study"), ["--into", str(tmp_path / "into"), "--boundary", "gpu"]
    codes = [main(["status", study]), main(["fit", study, "--out", str(tmp_path / "fitted.json")])]
    codes += [main(["import", str(path), *into]) for path in tmp_path.glob("*.*") if path.suffix != ".json"]
    codes += [main(["export", str(tmp_path / "law.json"), "--format", "csv", "--out", str(tmp_path / "o.csv")])]
    assert not made.exists()
    assert len(codes) == 8
    assert 1 not in codes, capsys.readouterr()
    assert codes.count(2) >= 5, "what is no table or no law is told as such"


def test_a_saved_plan_that_leads_elsewhere_is_not_gone_on_with(tmp_path: Path) -> None:
    """Whoever may write to the results' folder, on a disk that many share, may not choose what ranks read."""
    root, out = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    save(root / "saved", **BERT)
    save(tmp_path / "outside", **BERT)
    sweep = load_sweep(write(root, FROM_CHECKPOINT))
    core = Node("a", "0a", (Device("CPU-0", "One Core", 0, "cpu", 2**36, (0,), None, ""),), 2**36, 1, "One Core")
    plan = make_plan(sweep, [core], with_assumed(Catalogue.load(), [core])[0])
    Dataset.create(out, sweep=sweep.text, plan=plan.to_dict(), environment={}).close()
    assert saved_plan(out, sweep) == plan
    elsewhere = [
        replace(
            trial, spec=replace(trial.spec, configuration=replace(trial.spec.configuration, checkpoint="../outside"))
        )
        for trial in plan.trials
    ]
    forged = replace(plan, trials=tuple(elsewhere))
    (out / "plan.json").write_text(json.dumps(forged.to_dict()))
    assert Plan.load(out).trials == forged.trials, "its hash is right"
    assert saved_plan(out, sweep) is None
    with pytest.raises(InputError, match="the folder holds another study"):
        plan.check_same_study(Plan.load(out), out)
