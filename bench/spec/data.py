"""A sweep's own texts and tokenizer: read before anything starts, and held against its configurations."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from joulelaw import InputError
from joulelaw.bench.data.text_file import TextFile, read_text_file
from joulelaw.bench.data.text_input import check_lengths, check_texts, fit_tokenizer, load_tokenizer
from joulelaw.bench.spec.configuration import Configuration, TextData
from joulelaw.bench.spec.paths import file_inside, folder_inside, inside
from joulelaw.bench.spec.schema import DataSection
from joulelaw.bench.spec.yaml_lines import YamlFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class SweepData:
    """What a configuration says of the texts, and the files themselves."""

    named: TextData
    texts: TextFile
    tokenizer: "Tokenizer"

    @property
    def num_labels(self) -> int:
        """Classes of the file: at least the two that a classification needs."""
        return max(2, len(self.texts.class_names))


def read_data(section: DataSection, root: Path, file: YamlFile, *, labelled: bool) -> SweepData:
    """The data that a sweep names. `labelled`: a head needs the labels.

    Raises:
        InputError: with the sweep's line and the data's own.
    """
    places = {key: file.where(("data", key)) for key in ("path", "tokenizer")}
    path = file_inside(section.path, root, places["path"])
    tokenizer = inside(section.tokenizer, root, places["tokenizer"])
    if tokenizer.is_dir():
        folder_inside(section.tokenizer, root, places["tokenizer"])
    label_column = section.label_column if labelled else ""
    try:
        key = "path"
        texts = read_text_file(path, section.text_column, label_column)
        key = "tokenizer"
        loaded = load_tokenizer(tokenizer)
    except InputError as error:
        raise InputError(f"{error.where}: {error.what}", where=places[key], remedy=error.remedy) from None
    top = root.resolve()
    named = TextData(
        path=path.relative_to(top).as_posix(),
        tokenizer=tokenizer.relative_to(top).as_posix(),
        text_column=section.text_column,
        label_column=section.label_column,
        sha256=texts.sha256,
    )
    return SweepData(named, texts, loaded)


def data_errors(asked: Iterable[Configuration], data: SweepData, file: YamlFile) -> Iterator[InputError]:
    """Configurations that the texts or the tokenizer do not suit; equal sizes are looked at once."""
    kinds = list({_sizes(one): one for one in asked}.values())
    for one in kinds:
        try:
            key = "path"
            check_texts(data.texts, one)
            key = "tokenizer"
            fit_tokenizer(data.tokenizer, one, data.named.tokenizer)
        except InputError as error:
            what = f"{getattr(data.named, key)!r}: {error.what}"
            yield InputError(what, where=file.where(("data", key)), remedy=error.remedy)
    for head in dict.fromkeys(one.head for one in kinds):
        try:
            check_lengths(data.tokenizer, data.texts, head)
        except InputError as error:
            what = f"{error.where}: {error.what}"
            yield InputError(what, where=file.where(("data", "path")), remedy=error.remedy)


def _sizes(one: Configuration) -> tuple[object, ...]:
    sequences = one.data_parallel * one.micro_batch_size
    return one.head, one.model_family, sequences, one.num_labels, one.vocab_size, one.sequence_length
