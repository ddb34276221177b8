"""What P2 published beside what our operation law makes of the same data: curves, energies, and the selection example.

Reads the folder that `ecai2025.py` writes. Published figures: ECAI 2025, DOI 10.3233/FAIA250900.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.efficiency_curves import Curve, fit_curve
from joulelaw.model.hardware import Catalogue
from joulelaw.model.operation_energy import LinearLaw, fit_linear, r2
from joulelaw.model.operation_timings import Curves, Key, OperationTimings, forward_seconds
from joulelaw.model.operations import FLOP

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

A100 = "NVIDIA A100 80GB PCIe"
SWAPPED = {"qkv_projections": "final_projection", "final_projection": "qkv_projections"}
PUBLISHED_ENERGY = LinearLaw(3.6318, np.array([-0.1377, 0.3041, 0.3041, 0.5637]))  # J, J per published "us"
PUBLISHED_US = 1e6 / 100  # seconds to the paper's "us": its efficiency is in percent, its time lacks the factor 100
MODEL_A = {"num_layers": 6, "hidden_size": 512}
MODEL_B = {"num_layers": 12, "hidden_size": 768}
EXAMPLE = {"micro_batch_size": 64, "sequence_length": 320, "gpu_model": A100, "precision": "tf32"}
SPLITS = 20
TEST_SHARE = 0.2


@dataclass(frozen=True)
class CurveScore:
    """A published curve and ours on the same timings; residuals are root mean squares in percentage points."""

    key: Key
    published: Curve
    ours: Curve
    published_rmse: float
    relabelled_rmse: float  # of the other projection's published curve; nan where there is no other
    difference: float  # largest |ours / published - 1| over the timings, of the published curve that fits better
    seconds_off: float  # median |error| of the seconds that our curve gives
    note: str

    @property
    def holds(self) -> bool:
        """Within 2 % of the published curve, or better in residual than both readings of it."""
        best = float(np.nanmin([self.published_rmse, self.relabelled_rmse]))
        return self.difference <= 0.02 or self.ours.rmse <= best


@dataclass(frozen=True)
class EnergyScore:
    """One energy fit: rows, coefficients, and R2 on the rows it was fitted on or (left out) on others."""

    network: str
    name: str
    n: int
    r2: float
    law: LinearLaw
    held_out: str = ""


def load_timings(folder: Path) -> OperationTimings:
    return OperationTimings.of(pd.read_parquet(folder / "operations" / "ecai2025.parquet"), Catalogue.load())


def fitted_curves(timings: OperationTimings) -> dict[Key, Curve]:
    """Plain least squares of all timings, as the paper minimises."""
    percent = timings.percent
    parts = timings.table.groupby(["gpu_model", "precision", "model_family", "operation"])
    return {
        Key(*map(str, names)): fit_curve(part["flop"].to_numpy(), percent[part.index].to_numpy(), robust=False)
        for names, part in parts
    }


def curve_scores(folder: Path, timings: OperationTimings) -> list[CurveScore]:
    """Every published curve. Where the paper used a part of the timings, both are scored on that part."""
    table = pd.read_csv(folder / "published_curves.csv")
    names = zip(table["gpu_model"], table["precision"], table["model_family"], table["operation"], strict=True)
    keys = [Key(*each) for each in names]
    published = {key: Curve(*row) for key, row in zip(keys, table[["h_max", "k", "a"]].to_numpy(), strict=True)}
    most = dict(zip(keys, table["below_tflop"].fillna(np.inf), strict=True))
    return [_curve_score(key, published, most[key], timings) for key in keys]


def _curve_score(key: Key, published: Mapping[Key, Curve], most: float, timings: OperationTimings) -> CurveScore:
    t = timings.table
    mine = (t[["gpu_model", "precision", "model_family", "operation"]] == list(key)).all(axis=1)
    some = mine & (t["flop"] < most * 1e12)
    flop, percent = t["flop"][some].to_numpy(), timings.percent[some].to_numpy()
    ours = fit_curve(flop, percent, robust=False)
    seconds_off = float(np.median(np.abs(percent / ours.percent(flop) - 1)))

    def rmse(curve: Curve) -> float:
        return float(np.sqrt(np.mean((curve.percent(flop) - percent) ** 2)))

    other = published[key._replace(operation=SWAPPED[key.operation])] if key.operation in SWAPPED else None
    relabelled = rmse(other) if other else float("nan")
    nearest = other if other and relabelled < rmse(published[key]) else published[key]
    difference = float(np.max(np.abs(ours.percent(flop) / nearest.percent(flop) - 1)))
    note = f"timings below {most:g} TFLOP, as published" if np.isfinite(most) else ""
    return CurveScore(key, published[key], ours, rmse(published[key]), relabelled, difference, seconds_off, note)


def published_times(table: pd.DataFrame, network: str) -> Array:
    """The paper's own columns, layers (or time steps) included, as true seconds of a forward pass."""
    return table[[f"published_us_{name}" for name in FLOP[network]]].to_numpy() / PUBLISHED_US


def our_times(table: pd.DataFrame, network: str, curves: Curves) -> Array:
    """Seconds of each operation in a forward pass, from our curves and the catalogue's peaks."""
    catalogue = Catalogue.load()
    rows = table.assign(precision=table["gpu_model"].map({A100: "tf32"}).fillna("fp32"))
    peaks = [catalogue.get(g).peak(p) for g, p in zip(rows["gpu_model"], rows["precision"], strict=True)]
    seconds, _ = forward_seconds(network, rows, np.array(peaks), curves)
    repeats = table["repeats"].to_numpy()[:, None] if "repeats" in table else 1
    return seconds * repeats


def energy_scores(folder: Path, curves: Curves) -> list[EnergyScore]:
    """The linear law on Transformers and LSTMs, from published times and from ours, with and without signs free."""
    scores = []
    for network, file in (("transformer", "transformer_training"), ("lstm", "lstm_training")):
        table = pd.read_parquet(folder / f"{file}.parquet")
        for origin, times in _times(table, network, curves).items():
            for name, rows in _parts(table, origin).items():
                for non_negative in (False, True):
                    law = fit_linear(times[rows], table["energy_j"].to_numpy()[rows], non_negative=non_negative)
                    score = law.r2(times[rows], table["energy_j"].to_numpy()[rows])
                    free = "non-negative" if non_negative else "signs free"
                    scores.append(EnergyScore(network, f"{origin} times, {name}, {free}", int(rows.sum()), score, law))
    return scores


def _times(table: pd.DataFrame, network: str, curves: Curves) -> dict[str, Array]:
    return {"published": published_times(table, network), "our": our_times(table, network, curves)}


def _parts(table: pd.DataFrame, origin: str) -> dict[str, Mask]:
    parts = {"all rows": np.ones(len(table), dtype=bool)}
    if origin == "published" and "model_family" in table:
        parts |= {"BERT (A100)": (table["model_family"] == "bert").to_numpy()}
        parts |= {"GPT-2 (two GPUs)": (table["model_family"] == "gpt2").to_numpy()}
        parts |= {"distinct rows": ~table.duplicated().to_numpy()}
    return parts


def left_out_scores(folder: Path, curves: Curves, *, non_negative: bool = True) -> list[EnergyScore]:
    """Transformers: the median of random 80/20 splits, as the paper scores, and each GPU model left out."""
    table = pd.read_parquet(folder / "transformer_training.parquet")
    y = table["energy_j"].to_numpy()
    scores = []
    for origin, times in _times(table, "transformer", curves).items():

        def held_out(test: Mask, times: Array = times) -> tuple[float, LinearLaw]:
            law = fit_linear(times[~test], y[~test], non_negative=non_negative)
            return r2(y[test], law.predict(times[test])), law

        draws = [np.random.default_rng(seed).random(len(y)) < TEST_SHARE for seed in range(SPLITS)]
        results = [held_out(test) for test in draws]
        middle = float(np.median([score for score, _ in results]))
        name, random = f"{origin} times", f"{SPLITS} random splits, median"
        scores.append(EnergyScore("transformer", name, len(y), middle, results[0][1], random))
        for gpu in sorted(set(table["gpu_model"])):
            test = (table["gpu_model"] == gpu).to_numpy()
            score, law = held_out(test)
            scores.append(EnergyScore("transformer", name, int(test.sum()), score, law, f"{gpu} left out"))
    return scores


def selection(law: LinearLaw, curves: Curves, scale: float = 1.0) -> dict[str, float]:
    """Joules of the worked example's Model A and Model B per epoch; `scale` turns seconds into the law's unit."""
    models = pd.DataFrame([EXAMPLE | MODEL_A, EXAMPLE | MODEL_B])
    peak = Catalogue.load().get(A100).peak("tf32")
    seconds, _ = forward_seconds("transformer", models, np.full(len(models), peak), curves)
    joules = law.predict(seconds * scale)
    return {"A": float(joules[0]), "B": float(joules[1])}
