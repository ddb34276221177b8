"""The three shares of `model/power_cap.py`, fitted to BERT on a V100 and an A40 under power limits.

    python benchmarks/power_cap.py PATH

PATH is Zeus's table of times per epoch (power_a40_v100.csv; NSDI 2023, Apache-2.0): BERT-base on SQuAD and
Sentiment140, batches of 8 to 256, limits from a third of the default up. Each time is compared with that of the same
batch under the highest limit, which is the default of both cards. Prints the shares, the mean absolute error of the
logarithm of the time with them and with those of the program, and the program's error by card, data and limit.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import table
from scipy.optimize import minimize

from joulelaw.model import power_cap

SHARES = ("STATIC_SHARE", "BUSY_SHARE", "FLOOR")


def read(path: Path) -> pd.DataFrame:
    """One row a card, data set, batch size and limit: how much longer than under the default limit."""
    runs = pd.read_csv(path)
    runs = runs[runs["network"].str.startswith("bert")]
    case = ["gpu", "dataset", "batch_size"]
    times = runs.groupby([*case, "power_limit"], as_index=False)["time_per_epoch"].mean()
    times["default_w"] = times.groupby(case)["power_limit"].transform("max")
    whole = times[times["power_limit"] == times["default_w"]].set_index(case)["time_per_epoch"]
    slower = times["time_per_epoch"].to_numpy() / whole.loc[list(map(tuple, times[case].to_numpy()))].to_numpy()
    return times.assign(slower=slower)


def missed(times: pd.DataFrame, shares: np.ndarray) -> np.ndarray:
    """Log residuals of the slow-down with these shares."""
    kept = [getattr(power_cap, name) for name in SHARES]
    try:
        for name, value in zip(SHARES, shares, strict=True):
            setattr(power_cap, name, float(value))
        clock = power_cap.relative_clock(times["power_limit"].to_numpy(float), times["default_w"].to_numpy(float))
    finally:
        for name, value in zip(SHARES, kept, strict=True):
            setattr(power_cap, name, value)
    return np.asarray(np.log(times["slower"].to_numpy()) + np.log(clock))


def main(path: Path) -> None:
    times = read(path)
    held = times[times["power_limit"] < times["default_w"]].reset_index(drop=True)
    ours = np.array([getattr(power_cap, name) for name in SHARES])
    best = minimize(lambda shares: float(np.abs(missed(held, shares)).mean()), ours, method="Nelder-Mead")
    rows = [[name, f"{mine:.2f}", f"{found:.2f}"] for name, mine, found in zip(SHARES, ours, best.x, strict=True)]
    rows.append(["mean absolute error of log time", f"{np.abs(missed(held, ours)).mean():.3f}", f"{best.fun:.3f}"])
    print(table(["", "program", "fitted"], rows) + "\n")
    shown = held.assign(missed=missed(held, ours), share=(held["power_limit"] / held["default_w"]).round(2))
    groups = shown.groupby(["gpu", "dataset", "share"])["missed"].agg(["mean", "std", "size"])
    by = [[*map(str, key), f"{mean:+.3f}", f"{std:.3f}", f"{size:.0f}"] for key, (mean, std, size) in groups.iterrows()]
    print(table(["card", "data", "limit / default", "log time missed, mean", "std", "batches"], by))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
