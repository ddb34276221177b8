"""The law operation from the command line: trials and timings imported, fitted, validated, forecast and exported."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from joulelaw.bench.dataset.operation_timings import read_operations
from tests.bench.imported_tables import few_draws, refusal, run, written
from tests.model.rows import CPU
from tests.model.test_operation_law import PEAK, timings, trials

GPU = "NVIDIA GeForce RTX 2080 Ti"
FASTER = 13.45e12 / PEAK
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few_draws(monkeypatch)


def tables(folder: Path) -> tuple[str, str]:
    """Trials and timings as files; the GPU is as much faster as its peak is higher."""
    timed = timings(GPU).assign(micro_batch_size=None, sequence_length=None, hidden_size=None, input_size=None)
    timed["duration_s"] /= FASTER
    return written(folder, trials(0.02).assign(gpu_model=GPU)), written(folder, timed, "timings.csv")


def test_from_tables_to_forecasts(tmp_path: Path, capsys: Capture) -> None:
    table, timed = tables(tmp_path)
    code, told, _ = run(capsys, "import", table, "--operations", timed, "--into", "d", "--boundary", "gpu")
    assert (code, told["operations"]) == (0, len(timings()))
    operations = read_operations([Path("d")])
    assert operations is not None
    assert sorted(operations["flop"]) == sorted(timings()["flop"])

    code, told, said = run(capsys, "fit", "d", "--law", "operation", "--out", "law.json")
    assert code == 0, said
    assert sum(each["target"] == "energy" for each in told["coefficients"]) == 5
    code, told, said = run(capsys, "validate", "d", "--law", "operation", "--hold-out", "case")
    assert code == 0, said
    scores = {(each["law"], each["target"]): each["pooled"] for each in told["summaries"]}
    assert scores["operation", "energy"]["r2_log"] > 0.99

    assert run(capsys, "predict", "law.json", table, "--out", "forecast.csv")[0] == 0
    forecast = pd.read_csv("forecast.csv")
    np.testing.assert_allclose(forecast["predicted_energy_j"], forecast["energy_j"], rtol=0.1)
    assert run(capsys, "export", "law.json", "--format", "parquet")[0] == 0
    assert "curve" in set(pd.read_parquet("law-coefficients.parquet")["target"])


def test_a_data_set_without_timings_is_told_what_it_lacks(tmp_path: Path, capsys: Capture) -> None:
    table, _ = tables(tmp_path)
    run(capsys, "import", table, "--into", "d", "--boundary", "gpu")
    assert read_operations([Path("d")]) is None
    assert "no timings of operations" in refusal(capsys, "fit", "d", "--law", "operation", "--out", "law.json")


def test_a_forecast_for_a_gpu_without_timings_names_it(tmp_path: Path, capsys: Capture) -> None:
    table, timed = tables(tmp_path)
    run(capsys, "import", table, "--operations", timed, "--into", "d", "--boundary", "gpu")
    run(capsys, "fit", "d", "--law", "operation", "--out", "law.json")
    other = written(tmp_path, trials().assign(gpu_model="Tesla T4"), "other.csv")
    message = refusal(capsys, "predict", "law.json", other, "--out", "forecast.csv")
    assert "'Tesla T4' in fp32" in message
    assert GPU in message, "where there are timings"
    assert CPU.name not in message
