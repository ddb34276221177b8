"""What a configuration's text data must be, for the plan before a study and for the ranks: neither loads torch.

The tokenizer is run by Hugging Face's tokenizers library, from its tokenizer.json alone: nothing is looked up, no
remote code can run, and what `save_pretrained` of a fast tokenizer wrote is what is used.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from joulelaw import InputError
from joulelaw.bench.data.text_file import TextFile, read_text_file
from joulelaw.bench.spec.configuration import Configuration, Head, TextData
from joulelaw.model.architecture import FAMILIES

if TYPE_CHECKING:  # reading a file of texts needs no tokenizer
    from tokenizers import Tokenizer

FILE_IN_FOLDER = "tokenizer.json"
# BERT's, and that of byte-level tokenizers such as RoBERTa's.
MASK_TOKENS = ("[MASK]", "<mask>")
# Their language models guess masked tokens; those of the other families the next one.
MASKED_FAMILIES = tuple(name for name, family in FAMILIES.items() if family.encoder)
# A text of one token has no next one to guess.
FEWEST_TOKENS: dict[Head, int] = {"classification": 1, "language_model": 2}
AT_ONCE = 10_000


def read_texts(data: TextData, head: Head, root: Path) -> TextFile:
    """The file of texts, as the plan knew it. A language model is its own label: no label column is read.

    Raises:
        InputError: all that `read_text_file` raises; the file is not the one that was planned with.
    """
    label_column = data.label_column if head == "classification" else ""
    file = read_text_file(root / data.path, data.text_column, label_column)
    if data.sha256 and data.sha256 != file.sha256:
        raise InputError(
            f"has changed since the plan was made: sha256 {file.sha256[:12]}…, planned {data.sha256[:12]}…",
            where=file.path,
            remedy="put the planned file back, or begin a new study",
        )
    return file


def check_texts(file: TextFile, configuration: Configuration) -> None:
    """Raises InputError where the rows are too few for one global micro-batch, or not of `num_labels` classes."""
    sequences = configuration.data_parallel * configuration.micro_batch_size
    if len(file.texts) < sequences:
        raise InputError(
            f"{len(file.texts)} rows, but a micro-batch of all ranks takes {sequences}",
            where=file.path,
            remedy="give more rows, or a smaller micro_batch_size",
        )
    classes = len(file.class_names)
    if configuration.head == "classification" and classes != configuration.num_labels:
        names = ", ".join(map(repr, file.class_names[:5])) + (", …" if classes > 5 else "")
        raise InputError(
            f"{classes} classes ({names}), but num_labels is {configuration.num_labels}",
            where=file.path,
            remedy=f"num_labels: {classes}" if classes > 1 else "at least two classes, in the label column",
        )


def check_lengths(tokenizer: "Tokenizer", file: TextFile, head: Head) -> None:
    """Raises InputError where a text has too few tokens for the head, which would fail every trial that meets it.

    Looked at are texts no longer than so few tokens can be. A longer one that the tokenizer's normalizer shortens
    is told by the rank.
    """
    fewest = FEWEST_TOKENS[head]
    if tokenizer.num_special_tokens_to_add(False) >= fewest:
        return
    most_characters = fewest * max(map(len, tokenizer.get_vocab()), default=0)
    rows = [row for row, text in enumerate(file.texts) if len(text) <= most_characters]
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        encoded = tokenizer.encode_batch_fast([file.texts[row] for row in some])
        for row, each in zip(some, encoded, strict=True):
            check_length(len(each.ids), fewest, file.where(row))


def check_length(tokens: int, fewest: int, where: str) -> None:
    """Raises InputError where a text of so many tokens is too short."""
    if tokens < fewest:
        what = f"the text has {tokens} token{'s' if tokens != 1 else ''}, and {fewest} are the fewest to learn from"
        raise InputError(what, where=where, remedy="delete the row, or take another tokenizer")


def load_tokenizer(path: Path) -> "Tokenizer":
    """The tokenizer of a tokenizer.json, or of a folder that holds one.

    Raises:
        InputError: no such file, not a fast tokenizer's, or the library is not installed.
    """
    file = path / FILE_IN_FOLDER if path.is_dir() else path
    if not file.is_file():
        what = f"no {FILE_IN_FOLDER} in the folder" if path.is_dir() else "no such tokenizer"
        remedy = "a folder written by a fast tokenizer's save_pretrained, or its tokenizer.json"
        raise InputError(what, where=str(path), remedy=remedy)
    try:
        from tokenizers import Tokenizer  # here: not every plan has texts
    except ImportError as error:
        remedy = "pip install 'joulelaw[bench]'"
        raise InputError("the package tokenizers is not installed", where=str(path), remedy=remedy) from error
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise InputError(
            f"is not a tokenizer: {error}", where=str(file), remedy="save it anew, with save_pretrained"
        ) from error


def fit_tokenizer(tokenizer: "Tokenizer", configuration: Configuration, where: str) -> None:
    """Lets the tokenizer cut texts to `sequence_length`, and not pad.

    Raises:
        InputError: a vocabulary above `vocab_size`, a sequence that special tokens fill, or no mask token where
            masked tokens are to be guessed.
    """
    needed = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if needed > configuration.vocab_size:
        raise InputError(
            f"has token ids up to {needed - 1}, but vocab_size is {configuration.vocab_size}",
            where=where,
            remedy=f"vocab_size: {needed} or more",
        )
    special = tokenizer.num_special_tokens_to_add(False)
    if configuration.sequence_length <= special:
        raise InputError(
            f"adds {special} special tokens to each text, and sequence_length is {configuration.sequence_length}",
            where=where,
            remedy=f"sequence_length: {special + 1} or more",
        )
    if configuration.head == "language_model" and configuration.model_family in MASKED_FAMILIES:
        mask_token(tokenizer, where)
    tokenizer.no_padding()
    tokenizer.enable_truncation(configuration.sequence_length)


def mask_token(tokenizer: "Tokenizer", where: str) -> int:
    """The id of the token that stands for a masked one.

    Raises:
        InputError: the tokenizer has none.
    """
    for token in MASK_TOKENS:
        number = tokenizer.token_to_id(token)
        if number is not None:
            return int(number)
    remedy = "a masked language model needs one: take BERT's tokenizer, or head: classification"
    raise InputError(f"has no token {' or '.join(MASK_TOKENS)}", where=where, remedy=remedy)
