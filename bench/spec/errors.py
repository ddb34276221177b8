"""pydantic's errors -> messages for the sweep's author: file, line, dotted option, value seen, remedy."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from joulelaw import InputError
from joulelaw.bench.spec.yaml_lines import YamlFile, YamlPath

MAX_MESSAGES = 20

_REMEDIES = {
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "float_type": "write a number",
    "finite_number": "write a finite number",
    "string_type": "write a text",
    "bool_type": "write true or false",
    "model_type": "write a mapping of keys and values",
    "list_type": "write a list",
    "path_type": "write a path",
    "string_too_short": "write a text",
}
_BOUNDS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
_BOUND_WORDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}


def one_error(errors: Sequence[InputError], left_out: int = 0) -> InputError:
    """Several mistakes as one exception, a line each; a single one as it is. `left_out`: so many more there are."""
    if len(errors) == 1 and not left_out:
        return errors[0]
    lines = [str(error) for error in errors[:MAX_MESSAGES]]
    left_out += len(errors) - len(lines)
    if left_out:
        lines.append(f"and {left_out} more")
    return InputError("\n".join(lines))


def close_match(value: object, known: Iterable[str]) -> str:
    """A remedy: the known word that looks most like `value`, else all of them."""
    names = list(known)
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"one of {', '.join(names)}"


def schema_error(error: ValidationError, file: YamlFile, model: type[BaseModel]) -> InputError:
    """What pydantic found, in the order of the file: the first mistakes in words, the rest counted."""
    found = sorted(error.errors(), key=lambda each: file.line(_place(each, file)))
    told = [_translate(each, file, model) for each in found[:MAX_MESSAGES]]
    return one_error(told, left_out=len(found) - len(told))


def seen(value: object, most: int = 60) -> str:
    """A value as messages show it: shortened to `most` characters, and a missing one named."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def _translate(error: ErrorDetails, file: YamlFile, model: type[BaseModel]) -> InputError:
    kind, path, value = error["type"], _place(error, file), error["input"]
    context: dict[str, Any] = error.get("ctx", {})
    where = file.where(path)
    if kind == "extra_forbidden":
        return InputError("unknown key", where=where, remedy=close_match(path[-1], _keys(model, path[:-1])))
    if kind == "missing":
        return InputError("missing", where=where, remedy=f"add the key {path[-1]!r}")
    if kind == "literal_error":
        known = ["".join(each) for each in re.findall(r"'([^']*)'|(\d+)", context["expected"])]
        # A number in quotes is a text, and looks like the number that was meant.
        remedy = f"write {known[0]}, without quotes" if value in known else close_match(value, known)
        return InputError(f"unknown value {seen(value)}", where=where, remedy=remedy)
    if kind == "too_short":
        return InputError("empty", where=where, remedy="give at least one value")
    if kind in _BOUNDS:
        bound = f"{_BOUND_WORDS[_BOUNDS[kind]]} {context[_BOUNDS[kind]]}"
        return InputError(f"{seen(value)} is out of range", where=where, remedy=f"write a value of {bound}")
    if kind == "string_pattern_mismatch":
        remedy = "use at most 64 letters, digits, '.', '_' and '-', the first a letter or digit"
        return InputError(f"{seen(value)} cannot name a folder", where=where, remedy=remedy)
    if kind == "value_error":
        return InputError(str(context["error"]), where=where, remedy="change one of them")
    what = f"{seen(value)} is not of the right type" if kind in _REMEDIES else f"{seen(value)}: {error['msg']}"
    return InputError(what, where=where, remedy=_REMEDIES.get(kind, "change the value"))


def _place(error: ErrorDetails, file: YamlFile) -> YamlPath:
    """Where the mistake is. An axis with one value is checked as a list of one: its index is not in the file."""
    path: YamlPath = error["loc"]
    if path and isinstance(path[-1], int) and path not in file.lines:
        return path[:-1]
    return path


def _keys(model: type[BaseModel], path: YamlPath) -> list[str]:
    """The keys that a mapping at `path` may have."""
    for part in path:
        if isinstance(part, str):
            annotation: Any = model.model_fields[part].annotation
            model = getattr(annotation, "__args__", (annotation,))[0]
    return [each.alias or name for name, each in model.model_fields.items()]
