"""YAML text -> plain data and the line of every key and value: numbers, texts, lists and mappings, nothing else.

No tag constructs anything, duplicate keys are refused, and what anchors can blow up is bounded.
"""

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from joulelaw import InputError

YamlPath = tuple[str | int, ...]

EXAMPLE = "see bench/sweeps/quickstart.yaml for an example"
MAX_BYTES = 1_000_000
MAX_DEPTH = 12
MAX_NODES = 50_000
MAX_TEXT = 10_000
MAX_KEY = 100

# YAML 1.2's core schema. PyYAML's own is 1.1, where `1e-4` is a text, `no` is false and `1:30` is 90.
_SCALARS = (
    (re.compile(r"^(?:|~|null|Null|NULL)$"), lambda text: None),
    (re.compile(r"^(?:true|True|TRUE)$"), lambda text: True),
    (re.compile(r"^(?:false|False|FALSE)$"), lambda text: False),
    (re.compile(r"^[-+]?[0-9]{1,30}$"), int),
    (re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), float),
)

# Characters that no path may hold or that garble a terminal; escapes such as "\0" make them.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

# What PyYAML calls a scalar that names no tag of its own; the patterns above then decide.
_PLAIN_TAGS = {"str", "int", "float", "bool", "null", "timestamp", "merge", "value"}


@dataclass(frozen=True)
class YamlFile:
    """A YAML file's data, and where each part of it stands."""

    name: str
    data: Any
    lines: dict[YamlPath, int] = field(repr=False)

    def line(self, path: YamlPath) -> int:
        """The line of the deepest part of `path` that is in the file; a key's line, not its value's."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]

    def where(self, path: YamlPath) -> str:
        """File, line and dotted option, as error messages begin: `sweep.yaml:7 grids[0].strategy`."""
        return f"{self.name}:{self.line(path)} {dotted(path)}".rstrip()


def dotted(path: YamlPath) -> str:
    """('grids', 0, 'strategy') -> 'grids[0].strategy'."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def read_yaml(path: Path) -> tuple[YamlFile, str]:
    """The data of a YAML file and its text.

    Raises:
        InputError: it cannot be read, is not UTF-8, is too large, or is not YAML of the kind described above.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), remedy="check the path") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path), remedy="name a YAML file") from None
    if len(raw) > MAX_BYTES:
        raise InputError(f"more than {MAX_BYTES} bytes", where=str(path), remedy="name a sweep file")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start}", where=str(path), remedy="save it as UTF-8") from None
    return parse_yaml(text, str(path)), text


def parse_yaml(text: str, name: str) -> YamlFile:
    """The data of a YAML text; `name` stands for it in messages. Raises InputError as `read_yaml` does."""
    root = _compose(text, name)
    if root is None:
        raise InputError("the file is empty", where=name, remedy=EXAMPLE)
    reader = _Reader(name)
    data = reader.read(root, ())
    return YamlFile(name, data, reader.lines)


def _compose(text: str, name: str) -> yaml.Node | None:
    """PyYAML's tree of nodes, of which nothing is constructed; its errors become ours."""
    line = 1
    try:
        composer = _Composer(text, name)
        try:
            return composer.get_single_node()
        except (ValueError, OverflowError):  # an escape such as "\U00110000", which PyYAML does not check
            line = composer.line + 1
            raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        what = f"not YAML: {error.problem or error.context}"
        raise InputError(what, where=place, remedy="correct the line") from None
    except yaml.reader.ReaderError as error:
        place = f"{name}:{text.count(chr(10), 0, error.position) + 1}"
        what = f"not YAML: unacceptable character #x{error.character:04x}"
        raise InputError(what, where=place, remedy="leave it out") from None
    except (ValueError, OverflowError):
        raise InputError("not YAML: no such character", where=f"{name}:{line}", remedy="correct the line") from None


class _Composer(yaml.SafeLoader):
    """PyYAML's, which gives up at a text that is too large or too deep before it has read it whole."""

    def __init__(self, text: str, name: str) -> None:
        self._file, self._nodes, self._depth = name, 0, 0
        super().__init__(text)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._error(f"more than {MAX_NODES} values", "use fewer")
        if self._depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH}", "flatten it")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _error(self, what: str, remedy: str) -> InputError:
        return InputError(what, where=f"{self._file}:{self.line + 1}", remedy=remedy)


class _Reader:
    """Builds plain data from composed nodes. An alias is the same node again, so it is counted again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes = 0
        self.lines: dict[YamlPath, int] = {}

    def read(self, node: yaml.Node, path: YamlPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._error(node, path, f"more than {MAX_NODES} values once anchors are expanded", "use fewer")
        if len(path) > MAX_DEPTH:
            raise self._error(node, path, f"nested deeper than {MAX_DEPTH}", "flatten it")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._refuse_tag(node, path, "tag:yaml.org,2002:seq")
            return [self.read(child, (*path, index)) for index, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: YamlPath) -> dict[str, Any]:
        self._refuse_tag(node, path, "tag:yaml.org,2002:map")
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key: Hashable = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str) or key == "<<" or len(key) > MAX_KEY or not key.isprintable():
                raise self._error(key_node, path, "a key must be a plain word", "write the keys out")
            if key in result:
                first = self.lines[*path, key]
                what = f"the key {key!r} is there twice (first on line {first})"
                raise self._error(key_node, (*path, key), what, "remove one", key_node.start_mark.line + 1)
            self.lines[*path, key] = key_node.start_mark.line + 1
            result[key] = self.read(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.ScalarNode, path: YamlPath) -> Any:
        quoted = node.style is not None
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _PLAIN_TAGS:
            raise self._error(node, path, f"the tag {node.tag!r} is not allowed", "write a plain value")
        if len(node.value) > MAX_TEXT:
            raise self._error(node, path, f"a text of {len(node.value)} characters", f"write at most {MAX_TEXT}")
        if odd := _UNPRINTABLE.search(node.value):
            raise self._error(node, path, f"the character {odd[0]!r} is not allowed", "leave it out")
        if not quoted:
            for pattern, make in _SCALARS:
                if pattern.match(node.value):
                    return make(node.value)
        return node.value

    def _refuse_tag(self, node: yaml.Node, path: YamlPath, expected: str) -> None:
        if node.tag != expected:
            raise self._error(node, path, f"the tag {node.tag!r} is not allowed", "write a plain list or mapping")

    def _error(self, node: yaml.Node, path: YamlPath, what: str, remedy: str, line: int = 0) -> InputError:
        place = f"{self._name}:{line or node.start_mark.line + 1} {dotted(path)}".rstrip()
        return InputError(what, where=place, remedy=remedy)
