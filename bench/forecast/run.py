"""One training that somebody has in mind: from options to a row of the measurement table, or to what cannot be."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import pandas as pd

from joulelaw import InputError
from joulelaw.bench.forecast.models import Model, model_of
from joulelaw.bench.forecast.training import Training
from joulelaw.bench.forecast.values import CHOICES, MOST, RATES, wrong_values
from joulelaw.bench.spec.checks import mismatches
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.spec.errors import one_error
from joulelaw.bench.training.precision import trained_in
from joulelaw.model.hardware import Catalogue
from joulelaw.model.parallelism import FSDP_TP_DEGREE, USUAL_HEAD

NEEDED = ("model", "gpu_model", "micro_batch_size", "sequence_length", "precision")
# As a table that does not say is taken: Hugging Face's dropout and attention, and one optimizer step a micro-batch.
DEFAULTS = {"gpu_count": 1, "node_count": 1, "grad_accumulation": 1, "num_labels": 2, "dropout": 0.1}
# What no law looks at, or is one value of several.
UNSEEN = ("data", "learning_rate", "checkpoint", "input_size")

Asked = Mapping[str, Any]
"""Options by their column's name; None, or not there: not said."""


@dataclass(frozen=True)
class Run:
    """A configuration and how much of it is trained."""

    model: Model
    configuration: Configuration
    training: Training
    rates: Mapping[str, float]
    """RATES that are not the catalogue's."""

    @property
    def micro_steps(self) -> int:
        """Of each rank."""
        return int(self.training.micro_steps(*self._spread))

    @property
    def optimizer_steps(self) -> int:
        return int(self.training.optimizer_steps(*self._spread))

    @property
    def _spread(self) -> tuple[int, int, int]:
        one = self.configuration
        return one.micro_batch_size, one.grad_accumulation, one.data_parallel

    def table(self) -> pd.DataFrame:
        """One row of the measurement table, without results."""
        row = {name: value for name, value in self.configuration.to_dict().items() if name not in UNSEEN}
        return pd.DataFrame([row | {"micro_steps": self.micro_steps} | dict(self.rates)])


def run_of(asked: Asked, catalogue: Catalogue, named: Callable[[str], str] = str) -> Run:
    """The run that options ask for: NEEDED, RATES, what `Configuration` has, and what `Training` has.

    `named` gives an option's name as the user wrote it.

    Raises:
        InputError: with everything that is missing or cannot be, each under its option's name.
    """
    given = DEFAULTS | {name: value for name, value in asked.items() if value is not None}
    found = list(_errors(given))
    made: dict[str, Any] = {}
    for part, make in (
        ("model", _model),
        ("gpu_model", lambda each: _device(each, catalogue)),
        ("training", _training),
    ):
        try:
            made[part] = make(given)
        except InputError as error:
            found.append(error)
    if not found:
        configuration = _configuration(given, made["model"], made["gpu_model"])
        found = [InputError(what, where=axis, remedy=remedy) for axis, what, remedy in mismatches(configuration)]
        found += _unfit(configuration, made["model"], catalogue)
    if not found:
        run = Run(
            made["model"], configuration, made["training"], {name: given[name] for name in RATES if name in given}
        )
        if run.micro_steps <= MOST:
            return run
        found = [InputError(f"{run.micro_steps} micro-steps a rank", where="steps", remedy=f"at most {MOST}")]
    raise one_error([InputError(each.what, where=_named(each.where, named), remedy=each.remedy) for each in found])


def _errors(given: Asked) -> Iterator[InputError]:
    """Of single options."""
    for name in NEEDED:
        if name not in given:
            yield InputError("missing", where=name, remedy=_what_to_say(name))
    if "strategy" not in given and given["gpu_count"] > 1:
        yield InputError(
            "missing", where="strategy", remedy=f"{_what_to_say('strategy')}, for {given['gpu_count']} GPUs"
        )
    if given.get("strategy") == "single" and given["gpu_count"] > 1:
        remedy = "1, or another strategy, such as ddp"
        yield InputError(f"{given['gpu_count']}, and single trains on one", where="gpu_count", remedy=remedy)
    yield from wrong_values(given)
    if "tensor_parallel" in given and given.get("strategy") != "fsdp_tp":
        remedy = "leave it out: tp splits each layer over all GPUs"
        yield InputError("a degree, but not strategy fsdp_tp", where="tensor_parallel", remedy=remedy)


def _what_to_say(name: str) -> str:
    if name in CHOICES:
        return f"one of {', '.join(get_args(CHOICES[name]))}"
    return {
        "model": "a Hugging Face name, such as bert-large-uncased, or a config.json",
        "gpu_model": "as nvidia-smi names it, such as 'NVIDIA A100-SXM4-80GB'",
        "micro_batch_size": "sequences of one forward pass on one GPU",
        "sequence_length": "tokens, padding included",
    }[name]


def _model(given: Asked) -> Model | None:
    return model_of(given["model"]) if "model" in given else None


def _device(given: Asked, catalogue: Catalogue) -> str | None:
    return catalogue.get(given["gpu_model"]).name if "gpu_model" in given else None


def _training(given: Asked) -> Training:
    return Training(given.get("dataset_size"), given.get("epochs"), given.get("steps"))


def _configuration(given: Asked, model: Model, gpu_model: str) -> Configuration:
    strategy, count = given.get("strategy", "single"), given["gpu_count"]
    degree = {"tp": count, "fsdp_tp": given.get("tensor_parallel", FSDP_TP_DEGREE)}.get(strategy, 1)
    head = given.get("head", USUAL_HEAD.get(model.model_family, "classification"))
    fields = Configuration.__dataclass_fields__
    said = {name: value for name, value in given.items() if name in fields}
    own = {"gpu_model": gpu_model, "strategy": strategy, "tensor_parallel": degree, "head": head}
    return Configuration(**(said | model.shape | own))


def _unfit(asked: Configuration, model: Model, catalogue: Catalogue) -> list[InputError]:
    """What the device and the model do not go with."""
    errors, device = [], catalogue.get(asked.gpu_model)
    able = trained_in(device.kind, device.peak_flop_per_s)
    if asked.precision not in able:
        what = f"{device.name} cannot train in {asked.precision}"
        errors.append(InputError(what, where="precision", remedy=f"one of {', '.join(able)}"))
    if asked.sequence_length > model.positions:
        what = f"{asked.sequence_length} tokens, and {model.name} has {model.positions} positions"
        errors.append(InputError(what, where="sequence_length", remedy=f"at most {model.positions}"))
    return errors


def _named(where: str, named: Callable[[str], str]) -> str:
    """`training.steps` is the option steps."""
    return named(where.rpartition(".")[2])
