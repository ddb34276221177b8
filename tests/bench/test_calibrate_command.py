"""calibrate as users run it: real training on a device model that the law does not know, stopped and gone on with."""

import json
from pathlib import Path

import pytest

from joulelaw.bench.calibration.record import Record
from joulelaw.bench.cli import main
from joulelaw.model.coefficients import load_law, save_law
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from tests.bench.studies import Running, program
from tests.model.synthetic import measured

pytestmark = pytest.mark.timeout(300)

CATALOGUE = Catalogue.load()

SWEEP = """\
schema: 1
name: cores
seed: 11
defaults: {vocab_size: 500, hidden_size: 64, sequence_length: 32}
grids:
  - {num_layers: [1, 2, 3], micro_batch_size: [1, 2]}
window: {warmup_steps: 1, min_steps: 5, min_s: 1.2, max_s: 20, tolerance: 0}
metering: {meter: estimate, cpu_w_per_core: 10.0, idle_s: 0}
"""


def law_of_gpus(path: Path, name: str = "roofline", boundary: str = "cpu_modelled") -> Path:
    """A law that knows no processor."""
    table = measured(CATALOGUE, noise=0.03).assign(boundary=boundary)
    save_law(fit_law(name, table, CATALOGUE, bootstrap=0), path)
    return path


def test_a_new_device_model_is_calibrated_for_by_real_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    before = load_law(law_of_gpus(tmp_path / "law.json"))
    command = ("calibrate", "law.json", "sweep.yaml", "--into", "into", "--alone", "--most", "4", "--validation", "2")
    first = Running(*command, cwd=tmp_path)
    first.wait_for(lambda: list(tmp_path.glob("into/trials/*.parquet")))
    record = Record.of(tmp_path / "into")
    assert record is not None
    assert len(record.validation) == 2, "drawn before the first trial"
    first.interrupt()
    stopped = first.end()
    assert stopped.code == 130
    assert "Blind forecasts for " in stopped.errors
    kept = {path: path.read_bytes() for path in tmp_path.glob("into/trials/*.parquet")}

    second = program(*command, cwd=tmp_path)
    assert all(path.read_bytes() == content for path, content in kept.items())
    last = second.last
    assert second.code == last["exit_code"] == (0 if last["holds"] else 1)  # whichever: the machine may be busy
    assert (len(last["taken"]), last["validation"]) == (4, list(record.validation))
    assert not set(last["taken"]) & set(record.validation)
    law = load_law(tmp_path / "into/calibrated.json")
    assert law.history[:-1] == before.history
    event = law.history[-1]
    assert (event.what, event.n_trials, event.holds) == ("calibrated", 4, last["holds"])
    assert event.gpu_models == (last["gpu_model"],)
    assert last["gpu_model"].endswith("(1 core)")
    assert event.after is not None
    assert event.after["duration"].mape == last["after"]["duration"]["mape"]

    monkeypatch.chdir(tmp_path)
    assert main(command) == second.code
    said = capsys.readouterr()
    assert "ms a step" not in said.err, "nothing ran again"
    assert json.loads(said.out.splitlines()[-1])["after"] == last["after"]


def test_a_law_of_other_joules_or_form_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    law_of_gpus(tmp_path / "gpu.json", boundary="gpu")
    law_of_gpus(tmp_path / "reduced.json", "reduced_form")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    for law, told in (("reduced", "has no corrections by device"), ("gpu", "joules of 'cpu_modelled', the law is of")):
        assert main(["calibrate", f"{law}.json", "sweep.yaml", "--into", "into", "--alone"]) == 2
        assert told in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert not (tmp_path / "into").exists()
