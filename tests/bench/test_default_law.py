"""The law that ships is what the committed rows give, and says of itself what it is."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from joulelaw.bench.commands.law_files import SHIPPED, open_law
from joulelaw.bench.dataset.measurements import devices_files, read_measurements
from joulelaw.bench.imported.table import BOUNDARIES
from joulelaw.model.calibration import calibrate
from joulelaw.model.coefficients import to_dict
from joulelaw.model.hardware import Catalogue, to_toml
from joulelaw.model.tables import content_hash
from tests.bench.factories import GPU_MODEL, synthetic_dataset
from tests.model.synthetic import configurations, measured

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = Catalogue.load()
QUICKSTART = ROOT / "results" / "2x-amd-epyc-1-core" / "quickstart"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/default_law.py, whose folder is no package."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import default_law

    return default_law


def without_clock(content: dict[str, object]) -> dict[str, object]:
    """A law file's content less when it was fitted, and what depends on that."""
    return {name: value for name, value in content.items() if name not in ("history", "checksum")}


def test_the_shipped_file_is_what_the_committed_rows_give(script: ModuleType) -> None:
    made, shipped = to_dict(script.default_law(script.RESULTS)), json.loads(SHIPPED.read_text())
    assert without_clock(shipped) == without_clock(json.loads(json.dumps(made))), "make default-law"
    folders = [
        each for each in script.RESULTS.glob("*/*") if (each / "trials").is_dir() and each.parent.name != "local"
    ]
    assert QUICKSTART in folders
    rows = [script.qualifying(read_measurements([each]), Catalogue.load(devices_files([each]))) for each in folders]
    one = pd.concat(rows)
    assert shipped["provenance"]["data_hash"] == (content_hash(one) if len(one) else "")
    assert shipped["provenance"]["n_trials"] == len(one)


def test_metered_trials_of_gpus_make_it_a_fitted_law_and_estimates_do_not(script: ModuleType, tmp_path: Path) -> None:
    """The factory's device made a GPU: the same rows, metered or not, on it or on processor cores."""
    own = replace(CATALOGUE.get("NVIDIA A100-SXM4-40GB"), name=GPU_MODEL, aliases=())
    for kind in ("measured", "estimated"):
        folder = synthetic_dataset(tmp_path / kind / "lab" / "sweep", meter_kind=kind)
        for path in (folder / "trials").glob("*.parquet"):
            table = pq.read_table(path)
            at = table.schema.get_field_index("boundary")
            pq.write_table(table.set_column(at, table.schema.field(at), pa.array(["gpu"] * len(table))), path)
        (folder / "devices.toml").write_text(to_toml(own))
        rows, catalogue = read_measurements([folder]), Catalogue.load([folder / "devices.toml"])
        counted = {
            boundary: len(script.qualifying(rows.assign(boundary=boundary), catalogue)) for boundary in BOUNDARIES
        }
        assert counted == dict.fromkeys(BOUNDARIES, 0) | ({"gpu": len(rows)} if kind == "measured" else {})
        law = script.default_law(tmp_path / kind)
        assert law.provenance.n_trials == (len(rows) if kind == "measured" else 0)
        assert (script.NOTES[0] in law.notes) == (kind == "estimated")
    (folder / "devices.toml").write_text(to_toml(replace(own, kind="cpu")))
    assert script.qualifying(rows.assign(meter_kind="measured"), Catalogue.load(devices_files([folder]))).empty


def test_it_says_that_nothing_was_measured_wherever_it_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    law = open_law("default")
    said = capsys.readouterr().err
    assert said.count("default law: ") == len(law.notes) >= 3
    assert "no GPU has been measured for it yet" in said
    assert law.provenance.boundaries == ("gpu",)
    assert law.provenance.energy_is_estimated
    asked = configurations(devices=("NVIDIA H100 80GB HBM3", "Tesla T4"))
    forecast = law.predict(asked)
    assert (forecast["extrapolates"] == "everything: nothing was fitted").all()
    assert (forecast["duration_high_s"] / forecast["duration_low_s"]).min() > 4, "as wide as a factor 2 either way"
    assert (forecast["energy_high_j"] / forecast["energy_low_j"]).min() > 9


def test_its_intervals_hold_the_durations_of_the_committed_trials() -> None:
    """Of CPU cores, which no prior was chosen for; their joules, which it has none of, are not asked for."""
    rows = read_measurements([QUICKSTART])
    law = open_law("default", devices_files([QUICKSTART]))
    forecast = law.predict(rows.drop(columns="boundary"))
    inside = (forecast["duration_low_s"] <= rows["duration_s"]) & (rows["duration_s"] <= forecast["duration_high_s"])
    assert inside.mean() >= 0.95
    assert forecast["predicted_energy_j"].isna().all()


def test_a_few_trials_of_a_gpu_make_a_law_of_it() -> None:
    table = measured(CATALOGUE, noise=0.03, devices=("Tesla T4",))
    some, others = table.iloc[::8], table.drop(table.index[::8])
    law = calibrate(open_law("default"), some, allow_mixed_meters=True)
    assert law.calibrated == ("Tesla T4",)
    assert law.provenance.n_trials == len(some)
    before, after = (
        each.predict(others)["predicted_energy_j"] / others["energy_j"] for each in (open_law("default"), law)
    )
    assert (after - 1).abs().mean() < 0.5 * (before - 1).abs().mean()
