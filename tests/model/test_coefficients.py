"""The law file: what was fitted comes back from it bit by bit, and a file that is not what it was is refused."""

import hashlib
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from joulelaw import InputError
from joulelaw.model.coefficients import LawFileError, export_law, load_law, save_law, to_dict
from joulelaw.model.hardware import Catalogue, DeviceSpec
from joulelaw.model.history import Errors, Event
from joulelaw.model.laws import FittedLaw, fit_law
from joulelaw.model.laws.roofline import a_priori
from joulelaw.model.parallelism import COUNTS_VERSION
from tests.model.synthetic import DEVICES, configurations, measured

CATALOGUE = Catalogue.load()


@pytest.fixture(scope="module")
def fitted() -> FittedLaw:
    return fit_law("roofline", measured(CATALOGUE, noise=0.05), CATALOGUE, bootstrap=5)


@pytest.mark.parametrize("name", ["roofline", "reduced_form"])
def test_a_law_read_back_forecasts_the_same_to_the_last_bit(tmp_path: Path, name: str) -> None:
    law = fit_law(name, measured(CATALOGUE, noise=0.05), CATALOGUE, bootstrap=5)
    save_law(law, tmp_path / "law.json")
    read = load_law(tmp_path / "law.json")
    asked = configurations(devices=("Tesla T4", "Tesla V100-SXM2-16GB"))
    pd.testing.assert_frame_equal(read.predict(asked), law.predict(asked), check_exact=True)
    assert repr(read.coefficients) == repr(law.coefficients)  # repr, as nan is not equal to itself
    assert read.provenance == law.provenance
    assert read.widths == law.widths


def test_the_history_comes_back_with_what_a_calibration_did(tmp_path: Path, fitted: FittedLaw) -> None:
    before = {"energy": Errors(4, 0.4, -0.3, 0.5, 2.0), "duration": Errors(4, 0.3, 0.1, float("nan"), 2.0)}
    event = Event.now("calibrated", ("Tesla T4",), 5, 4, "a" * 64)
    judged = replace(event, before=before, after=before, holds=False, verdict="it does not hold")
    save_law(replace(fitted, history=(*fitted.history, event, judged)), tmp_path / "law.json")
    first, second, third = load_law(tmp_path / "law.json").history
    assert (first.what, first.n_trials, first.gpu_models) == ("fitted", 120, DEVICES)
    assert datetime.fromisoformat(first.at).tzinfo is not None
    assert second == event
    assert repr(third) == repr(judged)  # repr, as nan is not equal to itself


def test_a_file_of_version_1_is_read_and_has_no_history(tmp_path: Path, fitted: FittedLaw) -> None:
    content = to_dict(fitted) | {"schema_version": 1}
    del content["history"]
    read = load_law(written(content, tmp_path / "law.json"))
    assert read.history == ()
    assert read.parameters == fitted.parameters


def test_a_law_without_a_fit_can_be_saved_too(tmp_path: Path) -> None:
    save_law(a_priori(CATALOGUE), tmp_path / "law.json")
    read = load_law(tmp_path / "law.json")
    asked = configurations(most=6)
    pd.testing.assert_frame_equal(read.predict(asked), a_priori(CATALOGUE).predict(asked), check_exact=True)


def test_the_file_carries_the_devices_that_its_trials_ran_on(tmp_path: Path) -> None:
    """A laptop that never saw the measured machine's own catalogue file can still forecast for it."""
    t4 = CATALOGUE.get("Tesla T4")
    own = DeviceSpec(**{**vars(t4), "name": "Our own card", "aliases": ("ours",), "power_limit_w": None})
    table = measured(CATALOGUE, devices=("Tesla T4",)).assign(gpu_model="Our own card")
    law = fit_law("roofline", table, Catalogue({**CATALOGUE.devices, own.name: own}), bootstrap=0)
    save_law(law, tmp_path / "law.json")
    read = load_law(tmp_path / "law.json", CATALOGUE)
    assert read.catalogue.get("ours") == own
    pd.testing.assert_frame_equal(read.predict(table), law.predict(table), check_exact=True)


def test_the_file_says_where_the_law_comes_from(tmp_path: Path, fitted: FittedLaw) -> None:
    save_law(fitted, tmp_path / "law.json")
    content = json.loads((tmp_path / "law.json").read_text())
    origin = content["provenance"]
    assert content["schema_version"] == 2
    assert origin["n_trials"] == 120
    assert origin["n_cases"] == 40
    assert origin["meters"] == [["replay", "replayed"]]
    assert origin["boundaries"] == ["gpu"]
    assert len(origin["data_hash"]) == 64
    assert origin["ranges"]["num_layers"] == [2.0, 24.0]
    assert origin["created_by"].startswith("joulelaw ")
    assert {device["name"] for device in content["devices"]} == {"NVIDIA A100-SXM4-40GB", "Tesla T4"}
    assert not content["energy_is_estimated"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace('"duration.eta_flop": 0.', '"duration.eta_flop": 0.9', 1), "checksum"),
        (lambda text: text.replace('"schema_version": 2', '"schema_version": 3'), "version 3"),
        (lambda text: text[: len(text) // 2], "not a law file"),
        (lambda text: "{}", "not a law file"),
        (lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "checksum"}), "checksum"),
    ],
)
def test_a_file_edited_by_hand_cut_short_or_of_another_version_is_refused(
    tmp_path: Path, fitted: FittedLaw, edit, message: str
) -> None:
    path = tmp_path / "law.json"
    save_law(fitted, path)
    text = path.read_text()
    assert edit(text) != text
    path.write_text(edit(text))
    with pytest.raises(LawFileError, match=message) as refusal:
        load_law(path)
    assert "law.json" in str(refusal.value)
    assert pickle.loads(pickle.dumps(refusal.value)).where == str(path)


@pytest.mark.parametrize("name", ["roofline", "reduced_form"])
def test_a_law_whose_parameters_have_other_names_is_refused_with_both_lists(tmp_path: Path, name: str) -> None:
    """As an older program saved it: whole, with its checksum, and no longer to be understood."""
    law = fit_law(name, measured(CATALOGUE, noise=0.05), CATALOGUE, bootstrap=0)
    first = next(iter(law.parameters))
    renamed = {("duration.of_old" if known == first else known): value for known, value in law.parameters.items()}
    save_law(replace(law, parameters=renamed), tmp_path / "law.json")
    with pytest.raises(LawFileError) as refusal:
        load_law(tmp_path / "law.json")
    told = str(refusal.value)
    if name == "roofline":
        assert f"missing: {first}" in told
    assert "unknown: duration.of_old" in told
    assert "law.json" in told
    assert "fit it again" in told


@pytest.mark.parametrize(("version", "told"), [(None, "an earlier version"), (COUNTS_VERSION + 1, "version ")])
def test_a_law_fitted_on_other_counts_is_refused(
    tmp_path: Path, fitted: FittedLaw, version: int | None, told: str
) -> None:
    """Whole, with its checksum and every parameter, whose features have come to mean something else."""
    content = {name: value for name, value in to_dict(fitted).items() if name not in ("checksum", "counts_version")}
    content |= {} if version is None else {"counts_version": version}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content["checksum"] = hashlib.sha256(canonical.encode()).hexdigest()
    (tmp_path / "law.json").write_text(json.dumps(content))
    with pytest.raises(LawFileError, match=rf"law\.json: was fitted on counts of {told}.*; fit it anew"):
        load_law(tmp_path / "law.json")


def test_a_law_file_without_some_parameter_is_refused(tmp_path: Path, fitted: FittedLaw) -> None:
    few = {name: value for name, value in fitted.parameters.items() if name != "energy.kappa_static"}
    save_law(replace(fitted, parameters=few), tmp_path / "law.json")
    with pytest.raises(LawFileError, match=r"missing: energy\.kappa_static"):
        load_law(tmp_path / "law.json")


def written(content: dict[str, Any], path: Path) -> Path:
    """The law file as another program may have made it: whole, with a right checksum. Texts "1e999" become numbers."""
    content = {name: value for name, value in content.items() if name != "checksum"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content["checksum"] = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_text(re.sub(r'"(-?1e999|9{400})"', r"\1", json.dumps(content)))
    return path


def _put(*keys: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        inside: Any = content
        for key in keys[:-1]:
            inside = inside[key]
        inside[keys[-1]] = to

    return change


def _mirror_image_lost(content: dict[str, Any]) -> None:
    content["covariance"][0][1] += 0.5 * (content["covariance"][0][0] * content["covariance"][1][1]) ** 0.5


def _negative_variance(content: dict[str, Any]) -> None:
    content["covariance"][2][2] *= -1


IMPOSSIBLE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an infinite parameter": (_put("parameters", "duration.eta_flop", to="1e999"), "1e999 is too large a number"),
    "an infinite width": (_put("widths", "half", "case", "energy", to="1e999"), "1e999 is too large a number"),
    "an endless whole number": (_put("provenance", "n_trials", to="9" * 400), "is too large a number"),
    "a parameter of 0": (_put("parameters", "duration.eta_flop", to=0.0), "duration.eta_flop is 0.0, which is no"),
    "a negative parameter": (_put("parameters", "duration.eta_flop", to=-1), "duration.eta_flop is -1, which is no"),
    "a negative width": (_put("widths", "half", "case", "energy", to=-0.1), "width of energy, case is -0.1"),
    "a width in words": (
        _put("widths", "half", "strategy", "energy", to="0.1"),
        "strategy is '0.1', which is no width",
    ),
    "no width of a new device": (lambda c: c["widths"]["half"].pop("gpu_model"), "widths are of case, strategy,"),
    "no width of energies": (
        lambda c: c["widths"]["half"]["case"].pop("energy"),
        "of case are of duration, power, not of",
    ),
    "a ratio in words": (lambda c: c["widths"]["ratios"]["energy"].update({"a|b|c": "2"}), "'2' times that of all"),
    "a ratio of 0": (lambda c: c["widths"]["ratios"]["energy"].update({"a|b|c": 0}), "0 times that of all"),
    "no ratios": (_put("widths", "ratios", to={}), "widths by group are of nothing, not of duration, energy"),
    "a level in words": (_put("widths", "achieved", to="95 %"), "level achieved is '95 %'"),
    "no covariance": (_put("covariance", to=[]), "covariance is no table of"),
    "a covariance of too few": (_put("covariance", to=[[1.0]]), "covariance is no table of"),
    "a covariance in one line": (
        lambda c: c.update(covariance=[[value for row in c["covariance"] for value in row]]),
        "covariance is no table of",
    ),
    "words in the covariance": (lambda c: c["covariance"][0].__setitem__(0, "1"), "entries that are no numbers"),
    "a lopsided covariance": (_mirror_image_lost, "covariance is not symmetric"),
    "a negative variance": (_negative_variance, "covariance has negative variances"),
    "a range in words": (_put("provenance", "ranges", "num_layers", to=["2", "24"]), "range of num_layers is"),
    "a range that ends before it begins": (
        _put("provenance", "ranges", "num_layers", to=[24, 2]),
        "range of num_layers",
    ),
    "a range of texts that is one": (_put("provenance", "ranges", "strategy", to="single"), "range of strategy is"),
    "calibrated for one text": (_put("calibrated", to="Tesla T4"), "calibrated are no list of texts"),
    "calibrated for a number": (_put("calibrated", to=[1]), "calibrated are no list of texts"),
    "a history of one": (_put("history", to={}), "history is no list"),
    "an entry without a time": (lambda c: c["history"][0].pop("at"), "entry 0 is no entry"),
    "an unknown entry": (lambda c: c["history"][0].update(what="improved"), "entry 0 is of what is not known here"),
    "an entry of half a trial": (lambda c: c["history"][0].update(n_trials=0.5), "no whole numbers"),
    "an entry with errors in words": (
        lambda c: c["history"][0].update(after={"energy": {"mape": "small"}}),
        "errors of energy that are none",
    ),
    "a coefficient in words": (lambda c: c["coefficients"][0].update(value="big"), "is 'big'"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_numbers_that_no_fit_gives_are_refused_with_the_place(tmp_path: Path, fitted: FittedLaw, case: str) -> None:
    """Each would else end in a traceback, a forecast of nan, or an interval that is narrower without a word."""
    content = to_dict(fitted)
    assert load_law(written(content, tmp_path / "law.json")).parameters == fitted.parameters
    change, told = IMPOSSIBLE[case]
    change(content)
    with pytest.raises(LawFileError) as refusal:
        load_law(written(content, tmp_path / "law.json"))
    assert str(refusal.value).startswith(str(tmp_path / "law.json"))
    assert told in str(refusal.value)


@pytest.mark.parametrize("bootstrap", [0, 3])
def test_a_law_whose_parameters_may_be_negative_needs_no_covariance(tmp_path: Path, bootstrap: int) -> None:
    law = fit_law("reduced_form", measured(CATALOGUE, noise=0.05), CATALOGUE, bootstrap=bootstrap)
    assert min(law.parameters.values()) < 0
    save_law(law, tmp_path / "law.json")
    assert load_law(tmp_path / "law.json").covariance.shape == law.covariance.shape


def test_white_space_alone_is_not_an_edit(tmp_path: Path, fitted: FittedLaw) -> None:
    path = tmp_path / "law.json"
    save_law(fitted, path)
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert load_law(path).parameters == fitted.parameters


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LawFileError, match=r"nowhere\.json: cannot be read"):
        load_law(tmp_path / "nowhere.json")


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_an_exported_table_has_every_coefficient_with_unit_interval_and_origin(
    tmp_path: Path, fitted: FittedLaw, file_format: str
) -> None:
    path = tmp_path / f"coefficients.{file_format}"
    export_law(fitted, path, file_format)
    table = pd.read_csv(path) if file_format == "csv" else pq.read_table(path).to_pandas()
    assert list(table["name"]) == [c.name for c in fitted.coefficients]
    np.testing.assert_allclose(table["value"], [c.value for c in fitted.coefficients], rtol=1e-12)
    assert (table["low"] <= table["high"]).all()
    assert table["unit"].notna().all()
    assert set(table["meters"]) == {"replay (replayed)"}
    assert set(table["data_hash"]) == {fitted.provenance.data_hash}


def test_an_exported_json_is_a_law_file(tmp_path: Path, fitted: FittedLaw) -> None:
    export_law(fitted, tmp_path / "law.json", "json")
    assert load_law(tmp_path / "law.json").parameters == fitted.parameters
    with pytest.raises(InputError, match="unknown format 'xlsx'"):
        export_law(fitted, tmp_path / "law.xlsx", "xlsx")
