"""The user's text file: what is written is read, and every mistake is told with its line and what to do."""

import csv
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulelaw import InputError
from joulelaw.bench.data.text_file import TextFile, read_text_file
from tests.bench.texts import write_csv

UNICODE = st.text(st.characters(codec="utf-8"), max_size=30)
# A lone carriage return is no text, and the library that writes CSV files refuses a NUL.
TEXTS = UNICODE.filter(lambda text: text.strip() and "\0" not in text)
LABELS = st.sampled_from(["yes", "no", "per haps", "Ünsure"])
ROWS = st.lists(st.tuples(TEXTS, LABELS), min_size=1, max_size=12)


def read(folder: Path, content: str | bytes, name: str = "texts.csv") -> TextFile:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_text_file(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@settings(deadline=None)
@given(rows=ROWS)
def test_what_is_written_is_read_from_csv_and_jsonl_alike(folder: Path, rows: list[tuple[str, str]]) -> None:
    write_csv(folder / "texts.csv", [("id", "text", "label"), *((str(i), *row) for i, row in enumerate(rows))])
    lines = [json.dumps({"label": label, "text": text}, ensure_ascii=False) for text, label in rows]
    (folder / "texts.jsonl").write_bytes("\n".join(lines).encode())
    for name in ("texts.csv", "texts.jsonl"):
        file = read_text_file(folder / name)
        assert file.texts == [text for text, _ in rows]
        assert [file.class_names[label] for label in file.labels] == [label for _, label in rows]
        assert list(file.class_names) == sorted({label for _, label in rows})
        assert file.sha256 == hashlib.sha256((folder / name).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("labels", "names", "ids"),
    [
        (["10", "9", "10"], ("9", "10"), [1, 0, 1]),
        (["1", "-1", "01"], ("-1", "1"), [1, 0, 1]),
        (["b", " a", "b "], ("a", "b"), [1, 0, 1]),
        (["2", "10", "ten"], ("10", "2", "ten"), [1, 0, 2]),
        (["1_0", "9", "9"], ("1_0", "9"), [0, 1, 1]),
    ],
    ids=["numbers", "equal-numbers", "spaces", "texts-if-one-is", "underscore"],
)
def test_labels_become_classes_in_sorted_order(labels: list[str], names: list[str], ids: list[int], tmp_path: Path):
    file = read(tmp_path, "text,label\n" + "".join(f"it was,{label}\n" for label in labels))
    assert (file.class_names, file.labels) == (names, ids)


def test_numbers_and_their_texts_are_one_class_in_json(tmp_path: Path) -> None:
    rows = '{"text": "a", "label": 3}\n\n{"text": "b", "label": "3"}\r\n{"text": "c", "label": -4}'
    file = read(tmp_path, rows, "texts.jsonl")
    assert (file.class_names, file.labels, file.lines) == (("-4", "3"), [1, 1, 0], [1, 3, 4])


def test_texts_stay_as_they_are_and_know_their_lines(tmp_path: Path) -> None:
    """What tables' readers like to take for nothing, for a number or for a date stays a text."""
    content = '\ufefftext,label\r\nNA,1\r\n\r\n"two\nlines, ""quoted""",0\r\n 2026-01-01 ,1\r\n'
    file = read(tmp_path, content, "texts.CSV")
    assert file.texts == ["NA", 'two\nlines, "quoted"', " 2026-01-01 "]
    assert file.lines == [2, 4, 6]
    assert file.where(2) == f"{tmp_path / 'texts.CSV'}:6"


def test_a_language_model_needs_no_labels(tmp_path: Path) -> None:
    write_csv(tmp_path / "texts.csv", [("body",), ("it was",)])
    file = read_text_file(tmp_path / "texts.csv", "body", "")
    assert (file.texts, file.labels, file.class_names) == (["it was"], [], ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"csv:1: no column 'text'; there are none"),
        ("text,label\n", r"csv: no rows; one row a text"),
        ("Text,label\na,1\n", r"csv:1: no column 'text'; did you mean 'Text'; text_column and label_column"),
        ("text,class\na,1\n", r"csv:1: no column 'label'; there are 'text', 'class'"),
        ("text,label,text\na,1,b\n", r"csv:1: two columns 'text'; rename"),
        ("text,label\na,1\nb\n", r"csv:3: 1 fields, but the header has 2"),
        ("text,label\na,1\nb,c,1\n", r"csv:3: 3 fields, .* put \"quotes\" round"),
        ("text,label\na,1\nb, \n", r"csv:3: label is empty; delete the row"),
        ("text,label\na,1\n\n  ,1\n", r"csv:4: text is empty; delete the row"),
        ('text,label\na,1\n"b,1\nc,1\n', r"csv:3: broken CSV row: unexpected end of data; check its quotes"),
        ('text,label\n"a"b,1\n', r"csv:2: broken CSV row: .*; check its quotes"),
        (b"text,label\na,1\ncaf\xe9,0\n", r"csv:3: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("text,label\na,1\n".encode("utf-16"), r"csv:1: byte 0xff is not UTF-8"),
    ],
)
def test_a_mistake_in_a_csv_file_is_told_with_its_line(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'text': 'b'}", r"jsonl:2: broken JSON: .*; one JSON object a line"),
        ("[" * 100_000, r"jsonl:2: broken JSON"),
        ('{"text": "b", "label": ' + "9" * 5000 + "}", r"jsonl:2: broken JSON"),
        ('["b", 1]', r'jsonl:2: \["b", 1\] is not an object'),
        ('{"text": "b"}', r"jsonl:2: no column 'label'; there are 'text'"),
        ('{"text": null, "label": 1}', r"jsonl:2: text is null, not a text"),
        ('{"text": "", "label": 1}', r"jsonl:2: text is empty"),
        ('{"text": "\\ud800", "label": 1}', r"jsonl:2: text is not Unicode"),
        ('{"text": "b", "label": 1.5}', r"jsonl:2: label is 1.5, neither a text nor a whole number"),
        ('{"text": "b", "label": true}', r"jsonl:2: label is true, neither"),
        ('{"text": "b", "label": [1]}', r"jsonl:2: label is \[1\], neither"),
    ],
)
def test_a_mistake_in_a_jsonl_file_is_told_with_its_line(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, '{"text": "a", "label": 1}\n' + line, "texts.jsonl")


def test_a_file_that_is_not_there_or_not_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    for name, message in {
        "none.csv": "none.csv: no such file",
        "a.csv": "is a folder",
        "texts.tsv": r"unknown ending '.tsv'.*\.jsonl",
    }.items():
        with pytest.raises(InputError, match=message):
            read_text_file(tmp_path / name)
    with pytest.raises(InputError, match="both the column 'a'; name two columns"):
        read_text_file(tmp_path / "none.csv", "a", "a")


@settings(deadline=None)
@given(content=st.one_of(st.binary(max_size=60), st.text(alphabet='text,label\n\r"{}:1a', max_size=60)))
def test_any_bytes_are_read_or_refused_in_one_message(folder: Path, content: bytes | str) -> None:
    header = "text,label\na,1\n" if isinstance(content, str) else ""
    raw = content if isinstance(content, bytes) else (header + content).encode()
    for name in ("any.csv", "any.jsonl"):
        (folder / name).write_bytes(raw)
        refused = refusal(folder / name)
        if refused:
            assert str(folder / name) in refused.where
            assert refused.remedy
        else:
            file = read_text_file(folder / name)
            assert len(file.texts) == len(file.labels) == len(file.lines) > 0


def refusal(path: Path) -> InputError | None:
    try:
        read_text_file(path)
    except InputError as error:
        return error
    return None


def test_a_long_text_is_one_field(tmp_path: Path) -> None:
    """Beyond the limit of Python's reader, which guards against a quote that is never closed, the row is told."""
    limit = csv.field_size_limit()
    assert read(tmp_path, "text,label\n" + "a" * limit + ",1\n").texts == ["a" * limit]
    with pytest.raises(InputError, match=r"csv:2: broken CSV row: .* a field holds at most 131072"):
        read(tmp_path, "text,label\n" + "a" * (limit + 1) + ",1\n")
