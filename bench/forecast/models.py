"""Hugging Face model names and config.json files -> the shape that the law counts; other families are refused.

As Hugging Face does it: first local files, then names; those in the shipped table (`known_models.toml`), then on the
hub where huggingface_hub is installed. Only config.json is read: no weights, and nothing in it is executed.
"""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from joulelaw import InputError
from joulelaw.bench.forecast.hub import HubError, config_of
from joulelaw.bench.workloads.config_keys import CONFIG_KEYS

SHAPE = ("num_layers", "hidden_size", "num_heads", "intermediate_size", "vocab_size")
COUNTED = "BERT and GPT-2 (model_type bert or gpt2)"
MOST_BYTES = 1_000_000
MOST = 10**9
# Settings that make a model compute or train something else, and that plain ones do not have.
FOREIGN = ("pruned_heads", "quantization_config")


@dataclass(frozen=True)
class Model:
    """A model as its config.json has it."""

    name: str
    model_family: str
    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    positions: int
    """The longest sequence that it takes."""
    source: str
    """Where the shape is from: the shipped table, the hub, or a file."""

    @property
    def shape(self) -> dict[str, object]:
        """Columns of the measurement table."""
        return {name: getattr(self, name) for name in ("model_family", *SHAPE)}


def model_of(model: str) -> Model:
    """The model of a Hugging Face name, a config.json, or the folder that holds one.

    Raises:
        InputError: where="model": an unknown name (with the close ones), a file that is none, a family that is not
            counted, or a setting that makes the model compute something else.
    """
    if (file := _local(model)) is not None:
        return _from_file(model, file)
    if (known := _known().get(model.casefold())) is not None:
        return known
    if family := _other_family(model):
        raise _not_counted(model, family, "by its name ")
    try:
        return _from_config(model, config_of(model), "Hugging Face hub")
    except HubError as error:
        close = difflib.get_close_matches(model.casefold(), _known(), n=3, cutoff=0.6)
        meant = (
            f"close ones are {', '.join(dict.fromkeys(_known()[each].name for each in close))}; or " if close else ""
        )
        what = f"unknown model {model!r}: not in the shipped table, no file, and {error}"
        raise InputError(what, where="model", remedy=f"{meant}give its config.json") from None


def shape_of(model: str) -> dict[str, object]:
    """model_family, num_layers, hidden_size, num_heads, intermediate_size, vocab_size; raises as `model_of`."""
    return model_of(model).shape


def known_names() -> tuple[str, ...]:
    """Every name of the shipped table."""
    return tuple(model.name for model in _known().values())


@cache
def _shipped() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("known_models.toml").read_text())


@cache
def _known() -> Mapping[str, Model]:
    """The shipped table, by name in small letters."""
    return {
        name.casefold(): Model(
            name, each["model_family"], **each["shape"], positions=each["positions"], source="shipped"
        )
        for each in _shipped()["model"]
        for name in each["names"]
    }


def _local(model: str) -> Path | None:
    """The config.json that is meant; None for what is a name."""
    path = Path(model).expanduser()
    if model.strip() and path.is_dir() and (path / "config.json").is_file():
        return path / "config.json"
    if path.is_file():
        return path
    if path.suffix == ".json" or model.startswith((".", "/", "~")) or model.count("/") > 1 or not model.strip():
        raise InputError(f"no such file {model!r}", where="model", remedy="a config.json, or the folder that holds one")
    return None


def _from_file(model: str, path: Path) -> Model:
    try:
        with path.open("rb") as opened:
            config = json.loads(opened.read(MOST_BYTES))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", where="model", remedy="a config.json") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is no JSON", where="model", remedy="a config.json of Hugging Face") from None
    return _from_config(model, config, str(path))


def _from_config(model: str, config: Any, source: str) -> Model:
    """Of a config.json's content, checked."""
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise InputError(f"{model} has no model_type", where="model", remedy=f"the config.json of {COUNTED}")
    family = config["model_type"]
    if family not in CONFIG_KEYS:
        raise _not_counted(model, family)
    keys = CONFIG_KEYS[family]
    try:
        keys.check(config)
    except InputError as error:
        raise InputError(f"{model} is not counted: {error.what}", where="model", remedy=error.remedy) from None
    if foreign := [key for key in FOREIGN if config.get(key)]:
        raise InputError(f"{model} is not counted: it has {foreign[0]}", where="model", remedy="the plain model")
    sizes = keys.sizes(config) | {"positions": config.get(keys.positions, keys.published_positions)}
    for axis, value in sizes.items():
        if type(value) is not int or not 1 <= value <= MOST:
            key = keys.axes.get(axis, keys.positions)
            raise InputError(f"{model} has {key} {value!r:.50}", where="model", remedy="a whole number of at least 1")
    if sizes["hidden_size"] % sizes["num_heads"]:
        what = f"{model}: {sizes['num_heads']} heads do not divide a width of {sizes['hidden_size']}"
        raise InputError(what, where="model", remedy="a config.json whose heads do")
    return Model(model, family, **sizes, source=source)


def _other_family(model: str) -> str:
    """The family that a name tells, where it is another one; a word counts whole, whatever its digits and version."""
    words = model.rpartition("/")[2].casefold().replace("_", "-")
    for family in sorted(_shipped()["other_families"], key=len, reverse=True):
        if any(part.rstrip("0123456789.") == family.rstrip("0123456789") for part in _parts(words, family)):
            return str(family)
    return ""


def _parts(words: str, family: str) -> list[str]:
    """The name's words, as many together as the family's has."""
    parts, count = words.split("-"), family.count("-") + 1
    return ["-".join(parts[at : at + count]) for at in range(len(parts) - count + 1)]


def _not_counted(model: str, family: str, how: str = "") -> InputError:
    what = f"{model} is {how}a {family} model, which is not counted"
    remedy = f"{COUNTED} are; where its config.json says one of these, give that file"
    return InputError(what, where="model", remedy=remedy if how else f"{COUNTED} are")
