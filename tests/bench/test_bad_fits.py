"""What cannot be fitted, or only in part, and law files that are not what was fitted: told, and nothing silent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from joulelaw.model import coefficients, laws
from tests.bench.imported_tables import few_draws, plain_table, refusal, run, written

Capture = pytest.CaptureFixture[str]
TABLE = plain_table(60)
GROUPED = TABLE[TABLE["gpu_count"] > 1]
LAWS = ("roofline", "reduced_form")


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few_draws(monkeypatch)


def imported(capsys: Capture, table: pd.DataFrame, folder: str = "d") -> str:
    boundary = [] if "boundary" in table else ["--boundary", "gpu"]
    code, _, said = run(capsys, "import", written(Path(), table, f"{folder}.csv"), "--into", folder, *boundary)
    assert code == 0, said
    return folder


MIXED = {
    "boundaries": (TABLE.assign(boundary=["gpu"] * 30 + ["node_ac"] * 30), "mixed boundaries: gpu, node_ac"),
    "meters": (TABLE.assign(meter=["a"] * 30 + ["b"] * 30), "mixed meters: a stated, b stated"),
    "kinds": (
        TABLE.assign(meter="a", meter_kind=["measured"] * 30 + ["estimated"] * 30),
        "mixed meters: a estimated, a measured",
    ),
}


@pytest.mark.parametrize("what", list(MIXED))
@pytest.mark.parametrize("command", ["fit", "validate"])
def test_mixed_joules_are_refused_unless_asked_for(what: str, command: str, capsys: Capture) -> None:
    table, told = MIXED[what]
    folder = imported(capsys, table)
    out = ["--out", "law.json"] if command == "fit" else []
    assert refusal(capsys, command, folder, *out).startswith(f"d: {told}; ")
    assert not Path("law.json").exists()


def test_joules_that_were_mixed_on_demand_are_named_in_a_note(capsys: Capture) -> None:
    folder = imported(capsys, MIXED["meters"][0])
    _, _, said = run(capsys, "fit", folder, "--law", "reduced_form", "--out", "l.json", "--allow-mixed-meters")
    assert "Note: joules of a (stated) and b (stated) are taken together" in said


def test_folders_of_two_boundaries_are_mixed_as_well(capsys: Capture) -> None:
    imported(capsys, TABLE[:30], "here")
    imported(capsys, TABLE[30:].assign(boundary="node_ac"), "there")
    told = refusal(capsys, "fit", "here", "there", "--out", "law.json")
    assert told.startswith("here, there: mixed boundaries: gpu, node_ac; ")


@pytest.mark.parametrize("law", LAWS)
def test_one_strategy_alone_is_fitted_and_said(law: str, capsys: Capture) -> None:
    folder = imported(capsys, GROUPED)
    _, told, said = run(capsys, "fit", folder, "--law", law, "--out", "law.json")
    assert "Note: fitted on one " in said
    assert "strategy (fsdp)" in said
    assert told["n_trials"] == len(GROUPED)
    runs = written(Path(), TABLE[:3], "runs.csv")  # the first of them on one device
    run(capsys, "predict", "law.json", runs, "--out", "f.csv")
    assert "strategy" in pd.read_csv("f.csv")["extrapolates"][0]


def test_fewer_rows_than_coefficients_is_an_error_of_the_reduced_form(capsys: Capture) -> None:
    folder = imported(capsys, TABLE[:3])
    told = refusal(capsys, "fit", folder, "--law", "reduced_form", "--out", "law.json")
    assert "3 trials cannot fix 5 coefficients (intercept, log_C, log_M, log_h, strategy[fsdp])" in told


def test_fewer_rows_than_coefficients_leave_coefficients_of_the_roofline_open(capsys: Capture) -> None:
    """Its assumptions stand in, and each coefficient that is mostly one of them is named."""
    folder = imported(capsys, TABLE[:3])
    said = run(capsys, "fit", folder, "--out", "law.json")[2]
    assert "left open" in said
    identified = [each["identified"] for each in json.loads(Path("law.json").read_text())["coefficients"]]
    assert identified.count(False) > identified.count(True)


@pytest.mark.parametrize("law", LAWS)
def test_equal_rows_identify_nothing_but_a_level(law: str, capsys: Capture) -> None:
    same = pd.concat([TABLE[:1]] * 8).assign(trial_id=list("abcdefgh"))
    _, _, said = run(capsys, "fit", imported(capsys, same), "--law", law, "--out", "law.json")
    assert ("cannot be told from the others and is 0" if law == "reduced_form" else "left open") in said


@pytest.mark.parametrize(
    ("table", "command", "told"),
    [
        (TABLE.assign(ambiguous_steps=True), ["fit", "d", "--out", "x.json"], "d: no valid trials; "),
        (TABLE.assign(split="hold_out"), ["fit", "d", "--out", "x.json"], "d: every valid trial is held out"),
        (TABLE.assign(split="fit"), ["validate", "d"], "hold_out: the drawn split leaves nothing to fit or to test"),
        (TABLE[:3], ["validate", "d"], "hold_out: only one group"),
        (GROUPED, ["validate", "d", "--hold-out", "strategy"], "hold_out: only one strategy in the table"),
    ],
    ids=["all invalid", "all held out", "none held out", "one case", "one strategy"],
)
def test_nothing_to_fit_or_to_test_is_said(table: pd.DataFrame, command: list[str], told: str, capsys: Capture) -> None:
    imported(capsys, table)
    assert refusal(capsys, *command).startswith(told)


@pytest.fixture(scope="module")
def law_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The content of a law file of each law."""
    from joulelaw.model.hardware import Catalogue

    table = TABLE.assign(boundary="gpu")
    fitted = {law: laws.fit_law(law, table, Catalogue.load(), bootstrap=3) for law in LAWS}
    return {law: coefficients.to_dict(each) for law, each in fitted.items()}


def first(content: dict[str, Any]) -> str:
    return next(iter(content["parameters"]))


# Changes that its checksum, made anew, does not show; then those that it does.
REMADE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no law": (lambda c: c.pop("law"), "is not a whole law file"),
    "a law by another name": (lambda c: c.update(law="os.system"), "is of a law 'os.system' that is not known here"),
    "a parameter that is text": (lambda c: c["parameters"].update({first(c): "1"}), "is '1', which is no number"),
    "a parameter that is null": (lambda c: c["parameters"].update({first(c): None}), "is None, which is no number"),
    "parameters in a list": (lambda c: c.update(parameters=[1.0]), "is not a whole law file"),
    "an unknown parameter": (lambda c: c["parameters"].update({"duration.magic": 1.0}), "unknown: duration.magic"),
    "no widths": (lambda c: c.pop("widths"), "is not a whole law file"),
    "odd widths": (lambda c: c.update(widths={"half": 3}), "is not a whole law file"),
    "a ragged covariance": (lambda c: c.update(covariance=[[1, 2], [3]]), "its covariance is no table of"),
    "half a device": (lambda c: c.update(devices=[{"name": "x"}]), "is not a whole law file"),
    "a negative width": (
        lambda c: c["widths"]["half"]["case"].update(energy=-0.1),
        "its width of energy, case is -0.1, which is no width; fit it again",
    ),
    "a ratio in words": (lambda c: c["widths"]["ratios"]["energy"].update({"a|b|c": "2"}), "which is no ratio"),
    "a range in words": (lambda c: c["provenance"]["ranges"].update(num_layers=["2", "4"]), "its range of num_layers"),
    "calibrated for a text": (lambda c: c.update(calibrated="Tesla T4"), "its calibrated are no list of texts"),
    "no origin": (lambda c: c.update(provenance={}), "is not a whole law file"),
    "other counts": (lambda c: c.update(counts_version=0), "was fitted on counts of version 0"),
}
EDITED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another version": (lambda c: c.update(schema_version=99), "is of version 99, this program reads version"),
    "no version": (lambda c: c.pop("schema_version"), "is not a law file"),
    "no checksum": (lambda c: c.pop("checksum"), "its content does not match its checksum"),
    "a coefficient doubled": (
        lambda c: c["parameters"].update({first(c): 2 * c["parameters"][first(c)]}),
        "its content does not match its checksum: it was edited or cut short",
    ),
    "a note more": (lambda c: c["notes"].append("checked by hand"), "its content does not match its checksum"),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("case", [*REMADE, *EDITED])
def test_a_law_file_that_was_changed_is_refused_by_whoever_reads_it(
    case: str, law: str, law_files: dict[str, dict[str, Any]], capsys: Capture
) -> None:
    content = json.loads(json.dumps(law_files[law]))
    change, told = (REMADE | EDITED)[case]
    change(content)
    if case in REMADE:
        content.pop("checksum")
        content["checksum"] = coefficients._checksum(content)
    Path("law.json").write_text(json.dumps(content))
    runs = written(Path(), TABLE[:3], "runs.csv")
    for command in (["predict", "law.json", runs, "--out", "f.csv"], ["export", "law.json", "--format", "csv"]):
        error = refusal(capsys, *command)
        assert error.startswith("law.json: ")
        assert told in error
    assert not Path("f.csv").exists()


@pytest.mark.parametrize("value", [-0.5, 0.0])
def test_a_coefficient_that_is_not_positive_is_no_roofline(
    value: float, law_files: dict[str, dict[str, Any]], capsys: Capture
) -> None:
    content = json.loads(json.dumps(law_files["roofline"]))
    content.pop("checksum")
    content["parameters"][first(content)] = value
    Path("law.json").write_text(json.dumps(content | {"checksum": coefficients._checksum(content)}))
    assert f"is {value}, which is no number that it can be" in refusal(capsys, "export", "law.json", "--format", "csv")


@pytest.mark.parametrize("law", LAWS)
def test_an_infinite_number_is_no_law_file(law: str, law_files: dict[str, dict[str, Any]], capsys: Capture) -> None:
    content = json.loads(json.dumps(law_files[law]))
    content["parameters"][first(content)] = "1e999"
    Path("law.json").write_text(json.dumps(content).replace('"1e999"', "1e999"))
    for command in (["predict", "law.json", "runs.csv", "--out", "f.csv"], ["export", "law.json", "--format", "csv"]):
        assert "1e999 is too large a number" in refusal(capsys, *command)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"[]", b"null", b"1", b"{}", b"\xff\xfe", b"[" * 100_000, b"\x80\x04K\x01."]
)
def test_what_is_no_law_file_is_told(content: bytes, capsys: Capture) -> None:
    Path("law.json").write_bytes(content)
    runs = written(Path(), TABLE[:3], "runs.csv")
    told = refusal(capsys, "predict", "law.json", runs, "--out", "f.csv")
    assert told.startswith("law.json: is not a law file")
    assert told.endswith("make one with joulelaw fit")


def test_every_row_that_cannot_be_forecast_is_named(law_files: dict[str, dict[str, Any]], capsys: Capture) -> None:
    Path("law.json").write_text(json.dumps(law_files["roofline"]))
    table = TABLE[:9].copy()
    table.loc[2, "gpu_model"] = "H900"
    table.loc[4, "strategy"] = "fdsp"
    table.loc[6, "precision"] = "fp12"
    told = refusal(capsys, "predict", "law.json", written(Path(), table, "runs.csv"), "--out", "f.csv").splitlines()
    assert told[0].startswith("runs.csv: 3 problems")
    begins = ("row 3, trial t002: gpu_model", "row 5, trial t004: strategy", "row 7, trial t006: precision")
    assert all(line.strip().startswith(begin) for line, begin in zip(told[1:], begins, strict=True))
