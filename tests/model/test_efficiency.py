"""Speed-up and parallel efficiency, checked by hand on a case whose throughputs are known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from joulelaw import InputError
from joulelaw.model.efficiency import efficiency, measured_efficiency
from joulelaw.model.tables import CASE_COLUMNS
from tests.model.synthetic import configurations


def case_of(rows: list[tuple[str, int, int, float]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A case with (strategy, devices, micro-steps, seconds) a trial, 1000 tokens a micro-step and rank."""
    base = configurations(most=1).iloc[0]
    table = pd.DataFrame([base] * len(rows)).reset_index(drop=True)
    table[["strategy", "gpu_count", "micro_steps", "duration_s"]] = rows
    counts = pd.DataFrame({"tokens_per_micro_step": 1000.0, "data_parallel": table["gpu_count"].astype(float)})
    return table, counts


def test_efficiency_is_throughput_over_that_of_as_many_single_devices() -> None:
    table, counts = case_of([("single", 1, 100, 10.0), ("fsdp", 2, 100, 12.5), ("fsdp", 4, 50, 10.0)])
    rows = efficiency(table, counts)
    assert rows["tokens_per_s"].tolist() == [10_000, 16_000, 20_000]
    assert rows["parallel_efficiency"].tolist() == pytest.approx([1.0, 0.8, 0.5])
    assert rows["speed_up"].tolist() == pytest.approx([1.0, 1.6, 2.0])
    assert set(rows["reference"]) == {"single"}


def test_with_equal_work_it_is_the_published_ratio_of_times() -> None:
    """P1: h = T1 / (n Tn), where n devices share the tokens that one device had."""
    table, counts = case_of([("single", 1, 100, 10.0), ("fsdp", 4, 25, 5.0)])
    assert efficiency(table, counts)["parallel_efficiency"][1] == pytest.approx(10.0 / (4 * 5.0))


def test_the_reference_is_the_median_of_the_repeats() -> None:
    single = [("single", 1, 100, seconds) for seconds in (10.0, 11.0, 99.0)]
    table, counts = case_of([*single, ("fsdp", 2, 100, 11.0)])
    assert efficiency(table, counts)["parallel_efficiency"][3] == pytest.approx(1.0)


def test_a_case_that_does_not_fit_on_one_device_takes_its_smallest_group_and_says_so() -> None:
    table, counts = case_of([("fsdp", 2, 100, 10.0), ("fsdp", 4, 100, 12.5)])
    rows = efficiency(table, counts)
    assert rows["parallel_efficiency"].tolist() == pytest.approx([1.0, 0.8])
    assert set(rows["reference"]) == {"smallest group (2 devices)"}
    assert set(rows["reference_gpu_count"]) == {2}


@pytest.mark.parametrize(
    ("detail", "values"),
    [
        ("attention", ("sdpa", "eager")),
        ("dropout", (0.0, 0.1)),
        ("activation_checkpointing", (False, True)),
        ("head", ("classification", "language_model")),
        ("torch_compile", (True, False)),
        ("data", ("", "a.csv")),
    ],
)
def test_the_reference_has_the_same_details(detail: str, values: tuple[Any, Any]) -> None:
    """Two single devices, one twice as fast: each group of two is measured against its own."""
    table, counts = case_of([("single", 1, 100, 10.0), ("single", 1, 100, 5.0), *[("fsdp", 2, 100, 10.0)] * 2])
    table[detail] = [*values, *values]
    assert efficiency(table, counts)["parallel_efficiency"].tolist() == pytest.approx([1.0, 1.0, 1.0, 0.5])


def test_details_without_a_single_device_take_their_own_smallest_group() -> None:
    table, counts = case_of([("single", 1, 100, 10.0), ("fsdp", 2, 100, 10.0), ("fsdp", 4, 100, 10.0)])
    table["attention"] = ["eager", "sdpa", "sdpa"]
    references = ["single", "smallest group (2 devices)", "smallest group (2 devices)"]
    assert efficiency(table, counts)["reference"].tolist() == references


def test_cases_do_not_lend_each_other_their_reference() -> None:
    table, counts = case_of([("single", 1, 100, 10.0), ("fsdp", 2, 100, 10.0)])
    table.loc[1, "sequence_length"] = 32
    assert efficiency(table, counts)["reference"].tolist() == ["single", "smallest group (2 devices)"]
    assert "strategy" not in CASE_COLUMNS


def test_an_imported_efficiency_goes_first_where_there_is_one() -> None:
    table, counts = case_of([("single", 1, 100, 10.0), ("fsdp", 2, 100, 12.5)])
    imported = table.assign(parallel_efficiency=[np.nan, 0.3])
    assert measured_efficiency(imported, counts).tolist() == pytest.approx([1.0, 0.3])
    with pytest.raises(InputError, match=r"parallel_efficiency is not a number \(it is 'n/a'\)"):
        measured_efficiency(table.assign(parallel_efficiency=[0.3, "n/a"]), counts)
