"""report.md: all figures of a check, each with what its joules came from, and a line for results/LOG.md."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from joulelaw.bench.files import write_text
from joulelaw.bench.gpu_check.card import Card
from joulelaw.bench.gpu_check.figures import Cell, flop_of_step, of_arms, row, scores, spread
from joulelaw.bench.gpu_check.store import Store
from joulelaw.bench.gpu_check.studies import FITTING
from joulelaw.bench.plan.devices import with_assumed
from joulelaw.model.hardware import Catalogue, DeviceSpec

# Our steps may take so little longer than plain PyTorch's.
LEAST_RATIO = 0.99
DRY_WORDS = (
    "**A dry run on a processor core: the program was tried, no GPU was measured, and no figure below means anything.**"
)


def write_summary(store: Store, card: Card) -> Path:
    """Writes report.md from what is in the folder, however little; returns its path."""
    catalogue, assumed = with_assumed(Catalogue.load(), [card.node])
    sheet = None if assumed else catalogue.get(card.device.model)
    sections = [
        _head(store, card),
        _equal(store),
        _meter(store),
        _peaks(store, sheet),
        _steps(store, card, catalogue),
        _sweep(store),
        f"## Line for results/LOG.md\n\n{log_line(store, card)}",
    ]
    path = store.folder / "report.md"
    write_text(path, "\n\n".join(section for section in sections if section) + "\n")
    return path


def _head(store: Store, card: Card) -> str:
    device = card.device
    lines = [f"# GPU check: {device.model}", DRY_WORDS if card.dry else "", _meter_words(store)]
    limit = "unknown" if device.power_limit_w is None else f"{device.power_limit_w:g} W"
    lines.append(
        f"Driver {device.driver or 'none'}, power limit {limit}. Made by `python -m joulelaw.bench.gpu_check`."
    )
    return "\n\n".join(line for line in lines if line)


def _meter_words(store: Store) -> str:
    """Which meter the joules of the parts came from, and what is known of its sensor."""
    found = {
        (meter["name"], meter["kind"], meter["boundary"]): part.get("sensor", {})
        for step in ("meter", "peaks", "steps")
        for part in store.values(step).values()
        if (meter := part.get("meter"))
    }
    words = [
        f"Joules: meter {name} ({kind}), boundary {boundary}; sensor class {sensor.get('sensor_class') or 'unknown'}, "
        f"power from {sensor.get('power_source') or 'nothing'}, systematic error of the sensor at most "
        f"{Cell.percent(sensor.get('gain_bound'))}, which no figure below includes."
        for (name, kind, boundary), sensor in found.items()
    ]
    return "\n\n".join(words)


def _equal(store: Store) -> str:
    rows = [
        row(name, attention, Cell.small(arm["difference"]), Cell.small(arm["allowed"]), "yes" if arm["equal"] else "NO")
        for name, part in store.values("equal").items()
        for attention, arm in part["attention"].items()
    ]
    columns = ("model and precision", "attention", "largest relative difference of the loss", "allowed", "equal")
    return _section(store, "equal", "Training on the device beside the CPU in fp32", columns, rows)


def _meter(store: Store) -> str:
    rows, others = [], []
    for name, part in store.values("meter").items():
        for stretch in part["stretches"].values():
            numbers = (Cell.number(stretch[key]) for key in ("seconds", "power_w", "energy_j", "energy_stderr_j"))
            rows += [row(name, *numbers, Cell.percent(stretch["disagreement"], signed=True))]
        if name == "ticks":
            seen, sensor = part["seen"], part["sensor"]
            others.append(
                f"Read every millisecond under load the counter moved every {Cell.ms(seen.get('counter_tick_s'))} "
                f"and the power every {Cell.ms(seen.get('power_update_s'))}; the meter itself says "
                f"{Cell.ms(sensor.get('counter_tick_s'))} and {Cell.ms(sensor.get('power_update_s'))}."
            )
        if "ratio" in part:
            others.append(
                f"Sampling at {part['rate_hz']:g} Hz: a step takes {part['ratio']:.5f} times as long as without "
                f"(standard error {part['ratio_stderr']:.5f}, {len(part['ratios'])} pairs of "
                f"{part['steps_a_turn']} steps)."
            )
    columns = ("load", "s", "W", "J", "standard error, J", "trace against counter")
    return _section(store, "meter", "The meter under loads", columns, rows, others)


def _peaks(store: Store, sheet: DeviceSpec | None) -> str:
    rows = []
    for name, part in store.values("peaks").items():
        if name == "copy":
            promised = sheet.bandwidth_bytes_per_s if sheet else None
            measured, unit, detail = part["bytes_per_s"] / 1e9, "GB/s", f"{part['size_bytes'] / 2**20:g} MiB"
            promised, stretch = (promised / 1e9 if promised else None), part["stretches"].get("copy", {})
        else:
            promised = sheet.peak_flop_per_s.get(name) if sheet else None
            measured, unit, detail = part["flop_per_s"] / 1e12, "TFLOP/s", f"side {part['best_side']}"
            promised = promised / 1e12 if promised else None
            stretch = part["stretches"].get(f"side {part['best_side']}", {})
        share = measured / promised if promised else None
        cells = (f"{measured:.4g} {unit}", detail, f"{promised:.4g} {unit}" if promised else "-", Cell.percent(share))
        rows.append(row(name, *cells, Cell.number(stretch.get("power_w"))))
    columns = ("what", "measured", "best at", "data sheet", "share", "W meanwhile")
    return _section(store, "peaks", "Peaks", columns, rows)


def _steps(store: Store, card: Card, catalogue: Catalogue) -> str:
    peaks = store.values("peaks")
    rows = []
    for name, part in store.values("steps").items():
        arms = of_arms(part)
        flop = flop_of_step(part["model"], card.device.model, catalogue)
        peak = peaks.get(part["model"]["precision"], {}).get("flop_per_s")
        shares = {arm: flop / step_s / peak if peak else None for arm, step_s in part["step_s"].items()}
        rows.append(
            row(
                name,
                *(Cell.ms(part["step_s"][arm]) for arm in ("ours", "plain")),
                f"{part['ratio']:.4f} ({min(part['ratios']):.4f} to {max(part['ratios']):.4f})",
                *(Cell.number(arms[arm]) for arm in ("ours", "plain")),
                *(Cell.percent(shares[arm]) for arm in ("ours", "plain")),
            )
        )
    columns = ("case", "step", "plain PyTorch's", "plain over ours", "J a step", "plain's", "share of peak", "plain's")
    words = [
        "16-bit by autocast. In turns in one process; the ratio is the median over neighbouring turns, with its range. "
        "The share is counted FLOPs a second over the matrix peak measured above."
    ]
    slow = [name for name, part in store.values("steps").items() if part["ratio"] < LEAST_RATIO]
    words += [f"Below {LEAST_RATIO}: {', '.join(slow)}." if slow else f"All ratios are {LEAST_RATIO} or more."]
    return _section(store, "steps", "Steps beside plain PyTorch", columns, rows, words)


def _sweep(store: Store) -> str:
    rows = [
        row(name, str(part["planned"]), str(part["failed"]), str(part["invalid"]))
        for name, part in store.values("sweep").items()
    ]
    words = [*scores(store.folder / "validation.json"), *spread(store.folder / "repeats")]
    words += [
        f"`{name}` failed: {part['error'][:200]}" for name, part in store.parts(FITTING).items() if "error" in part
    ]
    return _section(store, "sweep", "The sized sweep", ("study", "trials", "failed", "invalid"), rows, words)


def log_line(store: Store, card: Card) -> str:
    """One dated line with the figures that matter most."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    steps, peaks, sweeps = (store.values(step) for step in ("steps", "peaks", "sweep"))
    ratios = [each["ratio"] for each in steps.values()]
    told = [f"plain PyTorch's step time over ours at least {min(ratios):.3f}"] if ratios else []
    told += [f"bf16 product {part['flop_per_s'] / 1e12:.4g} TFLOP/s" for name, part in peaks.items() if name == "bf16"]
    told += [f"{part['planned']} trials in {name}, {part['invalid']} invalid" for name, part in sweeps.items()]
    kinds = sorted({part["meter"]["kind"] for part in steps.values()})
    told += [f"joules {', '.join(kinds)}"] if kinds else []
    words = "; ".join(told) or "nothing measured yet"
    return f"- {today}: {'DRY RUN, not a GPU: ' if card.dry else ''}{card.device.model}, GPU check: {words}."


def _section(
    store: Store,
    step: str,
    title: str,
    columns: Sequence[str],
    rows: Sequence[str],
    words: Sequence[str] = (),
) -> str:
    """A heading, the table, words below it, and what failed; nothing where a step has not begun."""
    failures = [f"Failed: {name}: {part['error'][:200]}" for name, part in store.parts(step).items() if "error" in part]
    if not rows and not failures:
        return ""
    table = [row(*columns), row(*("---" for _ in columns)), *rows] if rows else []
    return "\n\n".join(each for each in [f"## {title}", "\n".join(table), *(words if rows else ()), *failures] if each)
