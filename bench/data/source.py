"""Which data a configuration trains on: synthetic or the user's texts, labelled for its head."""

from pathlib import Path

import torch

from joulelaw import InputError
from joulelaw.bench.data.batches import Source, SyntheticText
from joulelaw.bench.data.language_model import MaskedTokens, NextToken
from joulelaw.bench.data.text_data import LabelledText
from joulelaw.bench.data.text_input import MASKED_FAMILIES, mask_token
from joulelaw.bench.spec.configuration import Configuration


def make_source(configuration: Configuration, seed: int, device: torch.device, root: Path) -> Source:
    """The global batches of a configuration: the same for any number of ranks. Files are relative to `root`.

    Raises:
        InputError: a file, a vocabulary or a number of labels that cannot be trained on.
    """
    ranks, data = configuration.data_parallel, configuration.data
    texts = LabelledText.of(configuration, data, ranks, seed, device, root) if data else None
    source: Source = texts or SyntheticText.of(configuration, ranks, seed, device)
    if configuration.head == "classification":
        return source
    if configuration.model_family in MASKED_FAMILIES:
        # Of the synthetic tokens any will do.
        masked = mask_token(texts.tokenizer, texts.tokenizer_path) if texts else configuration.vocab_size - 1
        return MaskedTokens(source, masked, seed)
    if configuration.sequence_length < 2:
        raise InputError("one token has no next one to learn", where="sequence_length", remedy="at least 2")
    return NextToken(source)
