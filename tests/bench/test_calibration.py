"""A calibration's course: which trials run, what is kept to judge by, when it stops, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from joulelaw import InputError
from joulelaw.bench.calibration.folder import Asked
from joulelaw.bench.calibration.plan import calibration_plan, chosen_model
from joulelaw.bench.calibration.record import Record
from joulelaw.bench.calibration.standing import LEAST, Goal
from joulelaw.bench.spec.sweep_file import load_sweep
from joulelaw.model import calibration
from joulelaw.model.calibration import belief_of
from joulelaw.model.hardware import Catalogue
from joulelaw.model.holds import judge
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw, Rows
from joulelaw.model.laws.roofline_terms import UNMEASURED
from joulelaw.model.tables import check_configurations
from tests.bench.calibrations import Truth, after, begun, carried_out, gpus
from tests.model.synthetic import measured, truth

CATALOGUE = Catalogue.load()
NEW = "Tesla V100-SXM2-16GB"
SWEEP = """\
schema: 1
name: new
seed: 5
defaults: {vocab_size: 30522, precision: fp16}
grids:
  - {num_layers: [2, 6], hidden_size: 256, sequence_length: [64, 128, 512], micro_batch_size: [4, 16]}
  - {strategy: fsdp, gpu_count: [2, 4], num_layers: 6, hidden_size: 256, sequence_length: 128, micro_batch_size: 4}
  - {strategy: fsdp, gpu_count: 2, num_layers: 12, hidden_size: 768, sequence_length: [128, 512], micro_batch_size: 16}
repeats: 2
"""
# Off from its data sheet by factors that the law has corrections for.
OFF = {"duration.host[*]": 1.8, "duration.compute[*]": 0.7, "energy.static[*]": 1.9, "energy.dynamic[*]": 1.3}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No interval of a coefficient is looked at here."""
    monkeypatch.setattr(calibration, "DRAWS", 10)


@pytest.fixture(scope="module")
def law() -> FittedLaw:
    return fit_law("roofline", measured(CATALOGUE, noise=0.03, seed=1), CATALOGUE, bootstrap=0)


@pytest.fixture
def asked(law: FittedLaw, tmp_path: Path) -> Asked:
    (tmp_path / "new.yaml").write_text(SWEEP)
    return Asked(law, "law.json", load_sweep(tmp_path / "new.yaml"), None, Goal())


def runs_of(law: FittedLaw, noise: float = 0.03, seed: int = 4) -> Truth:
    """As trials run on the new machine."""
    others = {name: 1.0 for name in belief_of(law, NEW).names if name.endswith(f"[{UNMEASURED}]")}
    rng = np.random.default_rng(seed)

    def run(table: pd.DataFrame) -> pd.DataFrame:
        rows = Rows.of(check_configurations(table), CATALOGUE)
        forecast = truth(CATALOGUE).law.forecast({**truth(CATALOGUE).parameters, **others, **OFF}, rows)
        seconds, joules = np.exp(noise * rng.standard_normal((2, len(table))))
        return table.assign(duration_s=forecast.duration_s * seconds, energy_j=forecast.energy_j * joules)

    return run


def throttling(run: Truth) -> Truth:
    """The same with seconds and joules that grow with sequence length as no term of the law does."""

    def slower(table: pd.DataFrame) -> pd.DataFrame:
        worse = (table["sequence_length"] / 128.0) ** 1.2
        found = run(table)
        return found.assign(duration_s=found["duration_s"] * worse, energy_j=found["energy_j"] * worse)

    return slower


def ids(trials: Sequence[object]) -> set[str]:
    return {trial.trial_id for trial in trials}  # type: ignore[attr-defined]


def test_four_trials_suffice_for_a_device_off_from_its_data_sheet(asked: Asked) -> None:
    course = carried_out(begun(asked, (gpus(NEW),)), runs_of(asked.law))
    end = course[-1]
    assert (len(course), len(end.taken), len(end.validation)) == (2, LEAST, 4)
    assert end.reached
    found = judge(end.blind, end.law, end.validation, asked.goal.tolerance)
    assert found.holds
    for target in ("duration", "energy"):
        assert found.after[target].mape < found.before[target].mape / 3
        assert found.after[target].coverage == 1.0
        assert end.factors[target] < course[0].factors[target]


def test_validation_trials_are_drawn_by_the_seed_before_and_apart_from_the_design(asked: Asked) -> None:
    standing = begun(asked, (gpus(NEW),))
    batch = standing.next_batch(4)
    held = [trial for trial in batch if trial.split == "hold_out"]
    assert tuple(sorted(ids(held))) == standing.record.validation
    cases = {trial.spec.configuration.case_id for trial in held}
    assert len(cases) == 4
    assert not cases & {trial.spec.configuration.case_id for trial in standing.candidates}
    assert all(trial.spec.repeat == 0 for trial in standing.plan.trials)
    again = begun(asked, (gpus(NEW),))
    assert again.record == standing.record
    other = begun(replace(asked, sweep=replace(asked.sweep, seed=6)), (gpus(NEW),))
    assert other.record.validation != standing.record.validation
    sooner = begun(
        replace(asked, law=replace(asked.law, parameters={**asked.law.parameters, **{"duration.host[*]": 3.0}})),
        (gpus(NEW),),
    )
    assert sooner.record.validation == standing.record.validation


def test_what_is_measured_of_validation_trials_changes_no_choice_and_no_parameter(asked: Asked) -> None:
    run = throttling(runs_of(asked.law))
    first = begun(asked, (gpus(NEW),))
    standing = after(first, first.next_batch(4), run)
    held, table = standing.measured["trial_id"].isin(standing.record.validation), standing.measured
    other = replace(standing, measured=table.assign(energy_j=table["energy_j"].where(~held, 1e6)))
    assert (other.validation["energy_j"] == 1e6).all()
    assert other.law.parameters == standing.law.parameters
    assert ids(other.next_batch(4)) == ids(standing.next_batch(4)) != set()


def test_where_the_law_misses_its_own_trials_it_goes_on_to_the_most(asked: Asked) -> None:
    course = carried_out(begun(asked, (gpus(NEW),)), throttling(runs_of(asked.law)), devices=1)
    assert [len(each.taken) for each in course] == [0, 4, 5, 6, 7, 8]
    assert not course[-1].reached
    judgement = judge(course[-1].blind, course[-1].law, course[-1].validation, asked.goal.tolerance)
    assert judgement.holds is False
    assert len(course[1].next_batch(1)) == 1
    side_by_side = [trial.spec.configuration.gpu_count for trial in course[1].next_batch(8)]
    assert len(side_by_side) > 1
    assert sum(side_by_side) <= 8


def test_a_tolerance_out_of_reach_is_not_run_after(asked: Asked) -> None:
    """1.3 is less than what this law misses unseen cases by on any new device."""
    course = carried_out(begun(replace(asked, goal=Goal(tolerance=1.3)), (gpus(NEW),)), runs_of(asked.law))
    end = course[-1]
    assert not end.reached
    assert end.exhausted
    assert len(end.taken) == LEAST


def test_trials_that_fail_are_replaced_and_those_that_ran_stay(asked: Asked) -> None:
    standing = begun(asked, (gpus(NEW),))
    first = standing.next_batch(4)
    lost = {trial.trial_id for trial in first if trial.split == "fit"}.pop()
    held = standing.record.validation[0]
    course = carried_out(standing, runs_of(asked.law), useless={lost, held})
    end = course[-1]
    assert lost not in set(end.taken["trial_id"])
    assert len(end.taken) == LEAST
    assert (ids(first) - {lost, *standing.record.validation}) <= set(end.taken["trial_id"])
    assert len(end.validation) == 3
    nothing = carried_out(standing, runs_of(asked.law), useless=ids(standing.plan.trials))
    assert nothing[-1].taken.empty
    assert len(nothing[-1].record.chosen) <= 2 * asked.goal.most


def test_interrupted_it_goes_on_from_what_has_run(asked: Asked) -> None:
    run = runs_of(asked.law)
    standing = begun(asked, (gpus(NEW),))
    batch = standing.next_batch(4)
    record = standing.record.with_chosen([trial.trial_id for trial in batch if trial.split == "fit"], ())
    half = after(standing, batch[::2], run)
    end = carried_out(replace(half, record=record), run)[-1]
    assert set(half.measured["trial_id"]) <= set(end.measured["trial_id"])
    assert len(end.taken) == LEAST
    assert len(end.validation) == 4


def test_of_several_new_models_one_is_to_be_named(asked: Asked) -> None:
    nodes = (gpus(NEW), replace(gpus("NVIDIA H100 80GB HBM3"), node_id="b"))
    with pytest.raises(InputError, match=r"2 device models are new.*H100.*V100.*--gpu-model.*then calibrate the law"):
        begun(asked, nodes)
    named = begun(replace(asked, gpu_model=NEW.lower()), nodes)
    assert {trial.group[0] for trial in named.plan.trials} == {NEW}


def test_what_cannot_be_calibrated_is_refused(asked: Asked, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trial of the plan is for 'Tesla P100'; name one of 'Tesla V100"):
        chosen_model([NEW], asked.law, "Tesla P100")
    known = asked.law.provenance.ranges["gpu_model"]
    with pytest.raises(InputError, match="the law knows every device model that is there: Tesla T4"):
        chosen_model(["Tesla T4"], asked.law, None)
    assert chosen_model(["Tesla T4"], asked.law, "Tesla T4") in known
    standing = begun(asked, (gpus(NEW),))
    few = replace(standing.plan, trials=standing.plan.trials[:3])
    with pytest.raises(InputError, match=r"3 cases for Tesla V100.*too few"):
        calibration_plan(few, NEW, 4, "new.yaml")


def test_the_record_comes_back_and_another_calibration_is_refused(asked: Asked, tmp_path: Path) -> None:
    record = begun(asked, (gpus(NEW),)).record
    assert Record.of(tmp_path) is None
    record.with_chosen(["a-r0", "c-r0"], ()).with_chosen(["b-r0", "a-r0"], {"a-r0"}).save(tmp_path)
    saved = Record.of(tmp_path)
    assert saved is not None
    assert saved.chosen == ("a-r0", "b-r0")
    saved.check_same(replace(record, law="elsewhere/law.json"), tmp_path)
    for changed in ({"law_sha256": "0"}, {"gpu_model": "Tesla T4"}, {"boundary": "node_ac"}):
        with pytest.raises(InputError, match="the folder holds another calibration"):
            saved.check_same(replace(record, **changed), tmp_path)  # type: ignore[arg-type]
    (tmp_path / "calibration.json").write_text("{}")
    with pytest.raises(InputError, match="not a calibration's record"):
        Record.of(tmp_path)
