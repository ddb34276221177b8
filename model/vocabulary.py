"""Names in a table that nothing here knows: devices, strategies, families, precisions, and pairs that cannot be."""

import difflib
from collections.abc import Collection

import numpy as np
import pandas as pd

from joulelaw.model import recurrent
from joulelaw.model.architecture import FAMILY_NAMES
from joulelaw.model.columns import codes, numbers
from joulelaw.model.hardware import Catalogue, DeviceSpec, UnknownDevice
from joulelaw.model.parallelism import ELEMENT_BYTES, FSDP_TP_DEGREE, STRATEGIES
from joulelaw.model.problems import Problems

KNOWN: dict[str, Collection[str]] = {"strategy": STRATEGIES, "model_family": FAMILY_NAMES, "precision": ELEMENT_BYTES}


def find_unknown(table: pd.DataFrame, catalogue: Catalogue, problems: Problems) -> None:
    """Notes every row with a name that no count knows, or with names that do not go together.

    Looks at the columns that the table has; empty cells are not its business.
    """
    for name, known in KNOWN.items():
        if name in table.columns:
            _find_others(table, name, known, problems)
    devices = _find_devices(table, catalogue, problems) if "gpu_model" in table.columns else {}
    if "precision" in table.columns:
        for name, spec in devices.items():
            wrong = (table["gpu_model"] == name) & table["precision"].isin(ELEMENT_BYTES)
            wrong &= ~table["precision"].isin(list(spec.peak_flop_per_s))
            problems.find("precision", wrong, f"is not supported by {spec.name}")
    if {"strategy", "gpu_count"} <= set(table.columns):
        _find_counts(table, problems)
    if {"model_family", "strategy", "num_heads", "hidden_size", "intermediate_size"} <= set(table.columns):
        for name, family in recurrent.FAMILIES.items():
            _find_recurrent(table, table["model_family"] == name, family.gates, problems)


def _find_others(table: pd.DataFrame, name: str, known: Collection[str], problems: Problems) -> None:
    texts, code = codes(table, name)
    for at, text in enumerate(texts):
        if text and text not in known:
            close = difflib.get_close_matches(text, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(known)}"
            problems.find(name, code == at, f"is unknown, {hint}")


def _find_devices(table: pd.DataFrame, catalogue: Catalogue, problems: Problems) -> dict[str, DeviceSpec]:
    texts, code = codes(table, "gpu_model")
    found = {}
    for at, text in enumerate(texts):
        if not text:
            continue
        try:
            found[text] = catalogue.get(text)
        except UnknownDevice as error:
            problems.find("gpu_model", code == at, f"is in no catalogue; {error.remedy}")
    return found


def _find_counts(table: pd.DataFrame, problems: Problems) -> None:
    gpus = table["gpu_count"]
    problems.find("gpu_count", (table["strategy"] == "single") & (gpus > 1), "must be 1 with strategy single")
    degree = numbers(table, "tensor_parallel", FSDP_TP_DEGREE)
    odd = np.asarray(gpus, dtype=float) % degree != 0
    problems.find("gpu_count", (table["strategy"] == "fsdp_tp") & odd, "must be a multiple of tensor_parallel")


def _find_recurrent(table: pd.DataFrame, of_family: "pd.Series[bool]", gates: int, problems: Problems) -> None:
    """LSTM and GRU have no heads, gates of one width, and counts of one device."""
    problems.find("num_heads", of_family & (table["num_heads"] != 1), "must be 1: a recurrent network has no heads")
    other = table["intermediate_size"] != gates * table["hidden_size"]
    problems.find("intermediate_size", of_family & other, f"must be {gates} x hidden_size, the width of the gates")
    problems.find("strategy", of_family & (table["strategy"] != "single"), "must be single for a recurrent network")
