"""What the options of `recommend` ask for: workload, candidates, prices and limits, each checked."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from joulelaw import InputError
from joulelaw.bench.commands.run_options import flag, told_of_flags
from joulelaw.bench.forecast.training import Training
from joulelaw.bench.forecast.values import wrong_values
from joulelaw.bench.recommend.candidate_files import YAML, read_axes, read_candidates
from joulelaw.bench.recommend.candidates import AXES, Axes, Workload, candidates
from joulelaw.bench.recommend.odds import COSTS
from joulelaw.bench.recommend.quantities import JOULES, KILOGRAMS, SECONDS, quantity, span, whole_numbers, words
from joulelaw.bench.recommend.ranking import Asked
from joulelaw.bench.recommend.shapes import VOCABULARIES, Grid, named_shapes, shapes_within
from joulelaw.bench.spec.errors import one_error
from joulelaw.model.costs import Prices
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.parallelism import ELEMENT_BYTES, STRATEGIES

Options = Mapping[str, Any]

CHECKPOINTING = {"no": False, "yes": True}
# Axes that are lists of whole numbers, and of words with what is known of them.
COUNTS = ("gpu_count", "node_count", "tensor_parallel", "micro_batch_size", "grad_accumulation")
WORDS = {"strategy": tuple(STRATEGIES), "precision": tuple(ELEMENT_BYTES)}
GRID_OPTIONS = ("family", "layers", "width")
# What holds for every candidate.
DETAILS = (
    *("head", "num_labels", "dropout", "attention", "torch_compile"),
    *("power_limit_w", "link_bytes_per_s", "network_bytes_per_s", "boundary"),
)


def asked_of(options: Options) -> Asked:
    """What is to be low, and what is to be kept.

    Raises:
        InputError: an unknown `--by`, a limit or a cost that nothing here gives a price for, or values that cannot be.
    """
    by = options["by"]
    if by not in COSTS:
        raise InputError(f"unknown value {by!r}", where="--by", remedy=f"one of {', '.join(COSTS)}")
    limits = {
        "time": _limit(options, "deadline", SECONDS),
        "energy": _limit(options, "max_energy", JOULES),
        "cost": options["max_cost"],
        "co2e": _limit(options, "max_co2e", KILOGRAMS),
    }
    if limits["cost"] is not None and not 0 < limits["cost"] < float("inf"):
        raise InputError(f"{limits['cost']:g} is out of range", where="--max-cost", remedy="more than 0")
    wanted = {name for name, limit in limits.items() if limit is not None} | {by}
    if "cost" in wanted and options["price_per_kwh"] is None and not options["price_per_gpu_hour"]:
        raise InputError("no price", where="cost", remedy="give --price-per-kwh, --price-per-gpu-hour or both")
    if "co2e" in wanted and options["grid_intensity"] is None:
        raise InputError("no intensity of the grid", where="co2e", remedy="give --grid-intensity")
    if not 0 < options["confidence"] < 1:
        raise InputError(f"{options['confidence']:g} is out of range", where="--confidence", remedy="between 0 and 1")
    if options["show"] < 1:
        raise InputError(f"{options['show']} is out of range", where="--show", remedy="at least 1")
    kept = {name: limit for name, limit in limits.items() if limit is not None}
    return Asked(by, kept, options["confidence"], options["inside"], options["show"])


def workload_of(options: Options) -> Workload:
    """What is to be trained. Raises InputError where it is not said, or said twice."""
    length, batch = options["sequence_length"], options["global_batch"]
    if batch is not None and batch < 1:
        raise InputError(f"{batch} is out of range", where="--global-batch", remedy="at least 1")
    details = {name: options[name] for name in DETAILS if options[name] is not None}
    wrong = list(wrong_values({**details, "sequence_length": length}))
    if wrong:
        raise one_error([InputError(each.what, where=flag(each.where), remedy=each.remedy) for each in wrong])
    training = _training(options)
    sequences = options["steps"] * batch if options["steps"] else options["dataset_size"] * (options["epochs"] or 1.0)
    return Workload(_models(options, length, sequences), length, training, batch, details)


def candidates_of(options: Options, fitted: FittedLaw, workload: Workload) -> pd.DataFrame:
    """The candidates that the options, or a file of them, ask for."""
    own = _axes(options, fitted.catalogue)
    file = options["candidates"]
    if file is None:
        return candidates(_usual(fitted, own), workload)
    given = [flag(name) for name in AXES if options[name] is not None]
    if given:
        what = f"{', '.join(given)} beside a file of candidates"
        raise InputError(what, where="--candidates", remedy="say them in the file alone")
    if file.suffix.lower() not in YAML:
        return read_candidates(file, workload, _usual(fitted, own), fitted.catalogue)
    axes = read_axes(file, _usual(fitted, own))
    names = fitted.catalogue.own_names(axes.gpu_model)
    return candidates(axes.with_({"gpu_model": list(dict.fromkeys(names.values()))}), workload)


def prices_of(options: Options, models: Iterable[str]) -> dict[str, Prices]:
    """By GPU model. Raises InputError where one of them has no price per hour although others have."""
    hourly: dict[str, float] = {}
    for text in options["price_per_gpu_hour"] or ():
        name, _, price = text.rpartition("=")
        try:
            hourly[name.strip()] = float(price)
        except ValueError:
            remedy = "a number, or GPU model=number"
            raise InputError(f"{text!r} is no price", where="--price-per-gpu-hour", remedy=remedy) from None
    if options["currency"] and options["price_per_kwh"] is None and not hourly:
        remedy = "add --price-per-kwh or --price-per-gpu-hour"
        raise InputError("a currency without a price", where="--currency", remedy=remedy)
    found = {}
    for model in map(str, models):
        price = hourly.get(model, hourly.get(""))
        if hourly and price is None:
            what, remedy = f"no price for {model!r}", f"add --price-per-gpu-hour '{model}=...'"
            raise InputError(what, where="--price-per-gpu-hour", remedy=remedy)
        with told_of_flags():
            found[model] = Prices(options["price_per_kwh"], price, options["currency"] or "", options["grid_intensity"])
    return found


def _limit(options: Options, name: str, units: Mapping[str, float]) -> float | None:
    text = options[name]
    return None if text is None else quantity(text, units, flag(name))


def _training(options: Options) -> Training:
    if options["steps"] is not None and options["global_batch"] is None:
        what = "optimizer steps without a global batch: candidates would see different amounts of data"
        raise InputError(what, where="--steps", remedy="give --global-batch, or --dataset-size instead")
    with told_of_flags():
        return Training(options["dataset_size"], options["epochs"], options["steps"])


def _models(options: Options, length: int, sequences: float) -> pd.DataFrame:
    """The models, named or within ranges."""
    ranges = {name: options[name] for name in ("parameters", "flop")}
    ranged = any(each is not None for each in ranges.values())
    if (options["model"] is not None) == ranged:
        what = "both a model and a range of shapes" if ranged else "no model"
        raise InputError(what, where="--model", remedy="name --model, or a range with --parameters or --flop")
    if not ranged:
        if given := [f"--{name}" for name in GRID_OPTIONS if options[name] is not None]:
            what, remedy = f"{given[0]} beside a model", "give it with --parameters or --flop"
            raise InputError(what, where=given[0], remedy=remedy)
        return named_shapes(words(options["model"], "--model"), length)
    grid = Grid(
        words(options["family"], "--family", tuple(VOCABULARIES)) if options["family"] else tuple(VOCABULARIES),
        whole_numbers(options["layers"], "--layers") if options["layers"] else (),
        whole_numbers(options["width"], "--width") if options["width"] else (),
        options["head"] or "",
    )
    ends = {name: None if text is None else span(text, f"--{name}") for name, text in ranges.items()}
    return shapes_within(grid, length, sequences, parameter_range=ends["parameters"], flop_range=ends["flop"])


def _axes(options: Options, catalogue: Catalogue) -> dict[str, Any]:
    """The axes that options name."""
    found: dict[str, Any] = {}
    if options["gpu_model"] is not None:
        names = catalogue.own_names(words(options["gpu_model"], "--gpu-model"))
        found["gpu_model"] = list(dict.fromkeys(names.values()))
    for name in COUNTS:
        if options[name] is not None:
            found[name] = whole_numbers(options[name], flag(name))
    for name, known in WORDS.items():
        if options[name] is not None:
            found[name] = words(options[name], flag(name), known)
    if options["activation_checkpointing"] is not None:
        said = words(options["activation_checkpointing"], "--activation-checkpointing", tuple(CHECKPOINTING))
        found["activation_checkpointing"] = [CHECKPOINTING[each] for each in said]
    return found


def _usual(fitted: FittedLaw, own: Mapping[str, Any]) -> Axes:
    """The law's axes with those of one's own: a law of no device needs those that are named."""
    try:
        usual = Axes.of_law(fitted)
    except InputError:
        if "gpu_model" not in own:
            raise
        usual = Axes(gpu_model=own["gpu_model"])
    return usual.with_(dict(own))
