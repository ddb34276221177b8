"""model/law.schema.json: what every law file here, and of each law freshly fitted, is; and what none may be."""

import json
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from joulelaw.model.coefficients import SCHEMA, to_dict
from joulelaw.model.hardware import PRECISIONS, Catalogue, DeviceSpec
from joulelaw.model.history import Errors, Event
from joulelaw.model.intervals import Widths
from joulelaw.model.laws import LAWS, POST_RUN, fit_law
from joulelaw.model.laws.base import Coefficient, FittedLaw, Provenance
from joulelaw.model.laws.roofline import a_priori
from joulelaw.model.ranges import NAMED_AXES, NUMBER_AXES
from tests.model import test_operation_law
from tests.model.synthetic import measured

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = Catalogue.load()
FORM = json.loads(SCHEMA.read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(FORM, format_checker=Draft202012Validator.FORMAT_CHECKER)


def faults(content: Any) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in VALIDATOR.iter_errors(content)]


@pytest.fixture(scope="module")
def fitted() -> FittedLaw:
    return fit_law("roofline", measured(CATALOGUE, noise=0.05, most=60), CATALOGUE, bootstrap=2)


def committed() -> Iterator[tuple[str, Any]]:
    listed = subprocess.run(["git", "ls-files", "*.json"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        content = json.loads((ROOT / name).read_text(encoding="utf-8"))
        if isinstance(content, dict) and {"law", "parameters", "checksum"} <= content.keys():
            yield name, content


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(FORM)


def test_every_law_file_of_the_repository_has_the_form() -> None:
    found = {name: faults(content) for name, content in committed()}
    assert "results/2x-amd-epyc-1-core/quickstart/law.json" in found
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_each_law_freshly_fitted_has_the_form(fitted: FittedLaw) -> None:
    table = measured(CATALOGUE, noise=0.05, most=60)
    forms = [fit_law(name, table, CATALOGUE, bootstrap=2) for name in ("reduced_form", "reduced_form_post_run")]
    rows, timings = test_operation_law.trials(noise=0.02), test_operation_law.timings()
    operation = fit_law("operation", rows, test_operation_law.CATALOGUE, bootstrap=0, operations=timings)
    laws = [fitted, *forms, operation, a_priori(CATALOGUE)]
    assert {each.law.name for each in laws} == {*LAWS, *POST_RUN}
    assert [faults(to_dict(each)) for each in laws] == [[]] * len(laws)


def test_a_calibrated_law_with_its_verdict_has_the_form(fitted: FittedLaw) -> None:
    errors = {"energy": Errors(4, 0.4, -0.3, 0.5, 2.0), "duration": Errors(4, 0.3, 0.1, float("nan"), 2.0)}
    event = Event.now("calibrated", ("Tesla T4",), 5, 4, "a" * 64)
    judged = replace(event, before=errors, after=errors, holds=True, verdict="it holds")
    origin = replace(fitted.provenance, data_hash=f"{fitted.provenance.data_hash}+{'a' * 64}")
    law = replace(fitted, provenance=origin, calibrated=("Tesla T4",), history=(*fitted.history, event, judged))
    assert faults(to_dict(law)) == []


def test_it_names_the_fields_that_the_program_has(fitted: FittedLaw) -> None:
    parts = {
        "provenance": Provenance,
        "coefficient": Coefficient,
        "widths": Widths,
        "event": Event,
        "device": DeviceSpec,
    }
    for part, kind in parts.items():
        assert set(FORM["$defs"][part]["required"]) == {each.name for each in fields(kind)}, part
    assert set(FORM["$defs"]["errors"]["additionalProperties"]["required"]) == {each.name for each in fields(Errors)}
    assert set(FORM["properties"]) == set(to_dict(fitted))
    assert set(FORM["properties"]["law"]["enum"]) == {*LAWS, *POST_RUN}
    assert set(FORM["$defs"]["provenance"]["properties"]["ranges"]["properties"]) == {*NAMED_AXES, *NUMBER_AXES}
    assert set(FORM["$defs"]["device"]["properties"]["peak_flop_per_s"]["propertyNames"]["enum"]) == set(PRECISIONS)


WRONG: dict[str, Callable[[Any], object]] = {
    "a key that is not known": lambda c: c.update(remark="mine"),
    "a version to come": lambda c: c.update(schema_version=3),
    "version 2 without a history": lambda c: c.pop("history"),
    "version 1 with one": lambda c: c.update(schema_version=1),
    "another law": lambda c: c.update(law="mine"),
    "no kind of meter": lambda c: c["provenance"]["meters"].append(["nvml"]),
    "an unknown kind of meter": lambda c: c["provenance"]["meters"].append(["nvml", "guessed"]),
    "no boundary": lambda c: c["provenance"].update(boundaries=[]),
    "a hash that is none": lambda c: c["provenance"].update(data_hash="abc"),
    "a parameter in words": lambda c: c["parameters"].update({"duration.eta_flop": "0.5"}),
    "a parameter that is null": lambda c: c["parameters"].update({"duration.eta_flop": None}),
    "a coefficient without its unit": lambda c: c["coefficients"][0].pop("unit"),
    "a coefficient of power": lambda c: c["coefficients"][0].update(target="power"),
    "a negative width": lambda c: c["widths"]["half"]["case"].update(energy=-0.1),
    "no width of a new device": lambda c: c["widths"]["half"].pop("gpu_model"),
    "no width of energies": lambda c: c["widths"]["half"]["case"].pop("energy"),
    "a ratio of 0": lambda c: c["widths"]["ratios"]["energy"].update({"a|b|c": 0}),
    "a range in words": lambda c: c["provenance"]["ranges"].update(num_layers=["2", "24"]),
    "a range of one end": lambda c: c["provenance"]["ranges"].update(num_layers=[2]),
    "an axis that is none": lambda c: c["provenance"]["ranges"].update(colour=["red"]),
    "an unknown entry": lambda c: c["history"][0].update(what="improved"),
    "an entry of half a trial": lambda c: c["history"][0].update(n_trials=0.5),
    "a device without a source": lambda c: c["devices"][0].pop("source"),
    "a device of 0 bytes/s": lambda c: c["devices"][0].update(bandwidth_bytes_per_s=0),
    "a checksum cut short": lambda c: c.update(checksum=c["checksum"][:-1]),
}


def test_what_no_law_file_has_is_refused(fitted: FittedLaw) -> None:
    right = to_dict(fitted)
    assert faults(right) == []
    accepted = []
    for case, change in WRONG.items():
        content = deepcopy(right)
        change(content)
        accepted += [] if faults(content) else [case]
    assert accepted == []
