"""Hugging Face BERT: a classifier over its pooled first token, or a masked language model."""

from pathlib import Path

import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from joulelaw.bench.configuration import Configuration
from joulelaw.bench.workloads import BlockSplit, TrainingModel
from joulelaw.bench.workloads.hugging_face import Family, build_model

# As published; a longer sequence gets as many positions as it needs.
MIN_POSITIONS = 512


def sizes(config: BertConfig) -> dict[str, int]:
    """A BERT configuration's shape, in our names."""
    return {
        "num_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "num_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "vocab_size": config.vocab_size,
    }


FAMILY = Family(
    heads={"classification": BertForSequenceClassification, "language_model": BertForMaskedLM},
    sizes=sizes,
    dropouts=("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    blocks="bert.encoder.layer",
    pretrained=("bert.embeddings.", "bert.encoder."),
    split=BlockSplit(
        by_columns=("attention.self.query", "attention.self.key", "attention.self.value", "intermediate.dense"),
        by_rows=("attention.output.dense", "output.dense"),
    ),
)


def build(configuration: Configuration, device: torch.device, root: Path) -> TrainingModel:
    """BERT in training mode, fp32, on the device."""
    published = BertConfig(
        num_hidden_layers=configuration.num_layers,
        hidden_size=configuration.hidden_size,
        num_attention_heads=configuration.num_heads,
        intermediate_size=configuration.intermediate_size,
        vocab_size=configuration.vocab_size,
        max_position_embeddings=max(MIN_POSITIONS, configuration.sequence_length),
    )
    return build_model(FAMILY, published, configuration, device, root)
