"""How often a candidate that is said to cost less with probability p does: on simulated trials, and on real ones.

    python benchmarks/recommend_odds.py [PATH] [--draws 20] [--json FILE]

A law is fitted on some trials, and of pairs of the others it says with what probability the one takes less energy (or
time) for each sequence trained on than the other (`model.choices_odds`); the measurements tell whether it did. Of a
pair the likelier one is looked at, so that p is 0.5 to 1. Beside it the same with intervals that count as independent.
Simulated: 400 trials of a known law with 5 % noise, and 150 others. PATH is a measurement table or a data set, as for
law_scores.py: the splits by case of `validate`, each GPU model left out, and each calibrated on 4 trials. Pairs of one
model are those with the same shape and sequence length. Prints Markdown; aggregates only, never a row.
"""

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from law_scores import read
from law_speed import configurations, measured
from measuring import machine, table
from scipy.special import ndtr

from joulelaw.bench.forecast.training import data_parallel_degree
from joulelaw.model.calibration import calibrate
from joulelaw.model.choices_odds import Doubts
from joulelaw.model.design import choose
from joulelaw.model.hardware import Catalogue
from joulelaw.model.holdout import draw_groups, group_of
from joulelaw.model.intervals import TARGETS, Z
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.tables import PRE_RUN_COLUMNS, key

Array = npt.NDArray[np.float64]

UNITS = {"energy": "j", "duration": "s"}
EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
CLOSE = 1.2  # pairs within that factor of each other by their forecasts: those that a choice is about
SHAPE = ("model_family", "num_layers", "hidden_size", "sequence_length")
SIMULATIONS, FITTED, OTHERS = 10, 400, 150
FRACTION, FEW = 0.3, 4


@dataclass(frozen=True)
class Pairs:
    """What was said of pairs, the likelier one first, and what came out."""

    said: Array
    independent: Array
    """What independent intervals would have said of the same one; below 0.5 nowhere, as the order is the forecasts'."""
    right: npt.NDArray[np.bool_]
    one_model: npt.NDArray[np.bool_]
    close: npt.NDArray[np.bool_]

    def of(self, which: npt.NDArray[np.bool_]) -> "Pairs":
        return Pairs(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


def pairs_of(law: FittedLaw, others: pd.DataFrame, target: str) -> Pairs:
    """All pairs of rows that the law was not fitted on."""
    given = others[[name for name in PRE_RUN_COLUMNS if name in others]].reset_index(drop=True)
    forecast, unit = law.predict(given), UNITS[target]
    sequences = given["micro_steps"] * given["micro_batch_size"] * _ranks(given)
    value = forecast[f"predicted_{target}_{unit}"].to_numpy()
    logs = np.log(value / sequences.to_numpy())
    outcome = np.log(others[f"{target}_{unit}"].to_numpy() / sequences.to_numpy())
    first, second = np.triu_indices(len(given), 1)
    swapped = logs[first] > logs[second]
    first, second = np.where(swapped, second, first), np.where(swapped, first, second)
    shares = {each: np.full(len(given), float(each == target)) for each in TARGETS}
    spread = np.log(forecast[f"{target}_high_{unit}"].to_numpy() / value) / Z
    apart = logs[second] - logs[first]
    models = key(given, SHAPE).to_numpy()
    return Pairs(
        said=Doubts.of(law, given).better(first, second, logs, shares),
        independent=ndtr(apart / np.hypot(spread[first], spread[second])),
        right=outcome[first] < outcome[second],
        one_model=models[first] == models[second],
        close=apart < np.log(CLOSE),
    )


def _ranks(given: pd.DataFrame) -> list[int]:
    degrees = given.get("tensor_parallel", pd.Series(2, index=given.index)).fillna(2).astype(int)
    triples = zip(given["strategy"].astype(str), given["gpu_count"], degrees, strict=True)
    return [int(data_parallel_degree(*each)) for each in triples]


def simulated(catalogue: Catalogue) -> Iterator[tuple[FittedLaw, pd.DataFrame]]:
    for seed in range(SIMULATIONS):
        trials = measured(configurations(FITTED + OTHERS, seed), catalogue)
        yield fit_law("roofline", trials[:FITTED], catalogue, bootstrap=0), trials[FITTED:]


def unseen_cases(trials: pd.DataFrame, catalogue: Catalogue, draws: int) -> Iterator[tuple[FittedLaw, pd.DataFrame]]:
    cases = group_of(trials, "case")
    for seed in range(draws):
        held = cases.isin(draw_groups(list(cases), FRACTION, seed)).to_numpy()
        yield fit_law("roofline", trials[~held], catalogue, bootstrap=0), trials[held]


def unseen_devices(trials: pd.DataFrame, catalogue: Catalogue, few: int) -> Iterator[tuple[FittedLaw, pd.DataFrame]]:
    """Each GPU model left out, and so many trials on it then taken up."""
    for device in sorted(set(trials["gpu_model"])):
        own = (trials["gpu_model"] == device).to_numpy()
        law, rest = fit_law("roofline", trials[~own], catalogue, bootstrap=0), trials[own]
        if few:
            at = list(choose(law, rest, most=few, tolerance=1.0).positions)
            law, rest = calibrate(law, rest.iloc[at]), rest.drop(index=rest.index[at])
        yield law, rest


def scored(folds: Sequence[tuple[FittedLaw, pd.DataFrame]]) -> dict[str, dict[str, Any]]:
    """By target and selection of pairs."""
    found = {}
    for target in ("energy", "duration"):
        each = [pairs_of(law, others, target) for law, others in folds]
        whole = Pairs(*(np.concatenate([getattr(p, name) for p in each]) for name in Pairs.__dataclass_fields__))
        for name, which in {
            "all pairs": np.ones(len(whole.said), dtype=bool),
            f"within a factor {CLOSE:g}": whole.close,
            f"one model, within {CLOSE:g}": whole.close & whole.one_model,
        }.items():
            if which.any():
                found[f"{target}, {name}"] = _scores(whole.of(which))
    return found


def _scores(pairs: Pairs) -> dict[str, Any]:
    def loss(said: Array) -> float:
        return float(np.mean((said - pairs.right) ** 2))

    bins = []
    for low, high in itertools.pairwise(EDGES):
        at = (pairs.said >= low) & ((pairs.said < high) | (high == 1.0))
        count = int(at.sum())
        share = float(pairs.right[at].mean()) if count else None
        bins.append({"said": float(pairs.said[at].mean()) if count else None, "was": share, "pairs": count})
    return {
        "pairs": len(pairs.said),
        "bins": bins,
        "brier": loss(pairs.said),
        "brier_independent": loss(pairs.independent),
        "said": float(pairs.said.mean()),
        "said_independent": float(pairs.independent.mean()),
        "was": float(pairs.right.mean()),
    }


def show(scores: dict[str, dict[str, Any]]) -> str:
    names = [f"{low:g} - {high:g}" for low, high in itertools.pairwise(EDGES)]
    header = [
        "share that was lower, of pairs said",
        "pairs",
        *names,
        "said",
        "was",
        "said, independent",
        "Brier",
        "independent",
    ]
    rows = []
    for name, each in scores.items():
        bins = [f"{b['was']:.2f} ({b['pairs']:,})" if b["pairs"] else "-" for b in each["bins"]]
        means = [f"{each[k]:.3f}" for k in ("said", "was", "said_independent")]
        rows.append(
            [name, f"{each['pairs']:,}", *bins, *means, f"{each['brier']:.4f}", f"{each['brier_independent']:.4f}"]
        )
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--draws", type=int, default=20, help="splits by case")
    parser.add_argument("--json", type=Path, help="also write the scores here")
    asked = parser.parse_args()
    print(machine(), flush=True)
    found = {"Simulated": scored(list(simulated(Catalogue.load())))}
    print(f"\n## Simulated\n\n{show(found['Simulated'])}", flush=True)
    if asked.path is not None:
        trials, catalogue, _ = read(asked.path)
        sections = {
            "Unseen cases": lambda: unseen_cases(trials, catalogue, asked.draws),
            "A GPU model left out": lambda: unseen_devices(trials, catalogue, 0),
            f"A GPU model left out, calibrated on {FEW} trials": lambda: unseen_devices(trials, catalogue, FEW),
        }
        for name, folds in sections.items():
            found[name] = scored(list(folds()))
            print(f"\n## {name}\n\n{show(found[name])}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
