"""The user's labelled text file, CSV or JSON Lines: read whole, with every mistake told by file and line.

The plan and the ranks read it with this one file, and neither torch nor pandas is needed. The standard library's
readers keep texts as they are ("NA" stays a text, "01" is not a date) and know the line of each row.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from joulelaw import InputError

# 18 digits fit 64 bits. What is longer is a text, as is "1_000" or "+1".
_WHOLE_NUMBER = re.compile("-?[0-9]{1,18}")
_BLANK = "delete the row, or give it a text"

Row = tuple[int, Any, Any]
"""Line number, text and label as they are in the file."""


@dataclass(frozen=True)
class TextFile:
    """The rows of a file in its order. `labels` are class ids; without a label column they and the names are empty."""

    path: str
    texts: list[str]
    labels: list[int]
    class_names: tuple[str, ...]
    """By class id: in the order of numbers if all labels are whole numbers, else of texts."""
    lines: list[int]
    """Where each row begins, counted from 1."""
    sha256: str

    def where(self, row: int) -> str:
        """The place of a row, for messages."""
        return f"{self.path}:{self.lines[row]}"


def read_text_file(path: Path, text_column: str = "text", label_column: str = "label") -> TextFile:
    """All rows of a .csv file with a header, or of a .jsonl file. An empty `label_column`: labels are not read.

    Raises:
        InputError: no such file, another ending, not UTF-8, a broken row, a missing column, an empty text or label.
    """
    where = str(path)
    if text_column == label_column:
        raise InputError(f"text and label are both the column {text_column!r}", where=where, remedy="name two columns")
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    if path.suffix.lower() not in readers:
        remedy = "a CSV file with a header (.csv), or one JSON object a line (.jsonl)"
        raise InputError(f"unknown ending {path.suffix!r} of a text file", where=where, remedy=remedy)
    content = _content(path)
    lines, texts, labels = [], [], []
    for line, text, label in readers[path.suffix.lower()](_decoded(content, where), where, text_column, label_column):
        place = f"{where}:{line}"
        lines.append(line)
        texts.append(_checked_text(text, text_column, place))
        labels.append(_checked_label(label, label_column, place) if label_column else "")
    if not texts:
        raise InputError("no rows", where=where, remedy="one row a text")
    ids, names = _classes(labels) if label_column else ([], ())
    return TextFile(where, texts, ids, names, lines, hashlib.sha256(content).hexdigest())


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise InputError("is a folder, not a text file", where=str(path), remedy="name the file in it")
    if not path.is_file():
        raise InputError("no such file", where=str(path), remedy="the path is relative to the sweep's folder")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), remedy="allow reading it") from error


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content[: error.start].count(b"\n")
        what = f"byte 0x{content[error.start]:02x} is not UTF-8"
        raise InputError(what, where=f"{where}:{line}", remedy="save the file as UTF-8") from error


def _csv_rows(content: str, where: str, text_column: str, label_column: str) -> Iterator[Row]:
    rows = _numbered_csv_rows(content, where)
    line, header = next(rows, (1, []))
    columns = [_column(header, name, f"{where}:{line}") for name in (text_column, label_column) if name]
    for line, row in rows:
        if len(row) != len(header):
            what = f"{len(row)} fields, but the header has {len(header)}"
            raise InputError(what, where=f"{where}:{line}", remedy='put "quotes" round a text that holds a comma')
        yield line, row[columns[0]], row[columns[-1]] if label_column else ""


def _numbered_csv_rows(content: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line it begins on."""
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            remedy = f"check its quotes; a field holds at most {csv.field_size_limit()} characters"
            raise InputError(f"broken CSV row: {error}", where=f"{where}:{line}", remedy=remedy) from error
        if row is None:
            return
        if row:
            yield line, row


def _column(header: list[str], name: str, where: str) -> int:
    if header.count(name) == 1:
        return header.index(name)
    if name in header:
        raise InputError(f"two columns {name!r}", where=where, remedy="rename one of them")
    raise _missing(name, header, where)


def _missing(name: str, there: list[str], where: str) -> InputError:
    close = get_close_matches(name, there, 1)
    hint = f"did you mean {close[0]!r}" if close else f"there are {', '.join(map(repr, there[:20])) or 'none'}"
    remedy = f"{hint}; text_column and label_column in the sweep's data name them"
    return InputError(f"no column {name!r}", where=where, remedy=remedy)


def _jsonl_rows(content: str, where: str, text_column: str, label_column: str) -> Iterator[Row]:
    for line, text in enumerate(content.split("\n"), start=1):
        if not text.strip():
            continue
        place = f"{where}:{line}"
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"broken JSON: {error}", where=place, remedy="one JSON object a line") from error
        if not isinstance(row, dict):
            raise InputError(f"{_shown(row)} is not an object", where=place, remedy="one JSON object a line")
        for name in (text_column, label_column):
            if name and name not in row:
                raise _missing(name, list(row), place)
        yield line, row[text_column], row.get(label_column)


def _checked_text(text: Any, column: str, place: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{column} is {_shown(text)}, not a text", where=place, remedy='write it in "quotes"')
    if not text.strip():
        raise InputError(f"{column} is empty", where=place, remedy=_BLANK)
    try:
        text.encode()  # half a surrogate pair, as JSON can write it, has no bytes that a tokenizer could read
    except UnicodeEncodeError as error:
        raise InputError(f"{column} is not Unicode: {error.reason}", where=place, remedy="mend the text") from error
    return text


def _checked_label(label: Any, column: str, place: str) -> str:
    if isinstance(label, int) and not isinstance(label, bool):
        return str(label)
    if not isinstance(label, str):
        what = f"{column} is {_shown(label)}, neither a text nor a whole number"
        raise InputError(what, where=place, remedy='write it in "quotes"')
    if not label.strip():
        raise InputError(f"{column} is empty", where=place, remedy="delete the row, or give it a label")
    return label.strip()


def _shown(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else f"{shown[:40]} …"


def _classes(labels: list[str]) -> tuple[list[int], tuple[str, ...]]:
    """The class id of each label, and the classes' names."""
    if all(map(_WHOLE_NUMBER.fullmatch, labels)):
        labels = [str(int(label)) for label in labels]  # 01 is 1
        names = sorted(set(labels), key=int)
    else:
        names = sorted(set(labels))
    ids = {name: number for number, name in enumerate(names)}
    return [ids[label] for label in labels], tuple(names)
