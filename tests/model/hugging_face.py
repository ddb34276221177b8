"""Hugging Face models of small sizes, and the shapes that are to count them."""

from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)

from joulelaw.model.architecture import Shape

MODELS = {
    ("bert", "classification"): BertForSequenceClassification,
    ("bert", "language_model"): BertForMaskedLM,
    ("gpt2", "classification"): GPT2ForSequenceClassification,
    ("gpt2", "language_model"): GPT2LMHeadModel,
}
# Layers, width, heads, FFN, vocabulary, sequence length, micro-batch, labels: nothing square, nothing equal.
SIZES = [(1, 32, 2, 96, 71, 16, 3, 2), (3, 48, 4, 80, 130, 24, 2, 5), (2, 64, 8, 256, 99, 40, 1, 3)]


def shape_of(family: str, head: str, sizes: tuple[int, ...]) -> Shape:
    layers, width, heads, ffn, vocabulary, length, batch, labels = sizes
    return Shape.of(
        family,
        head=head,
        num_layers=layers,
        hidden_size=width,
        num_heads=heads,
        intermediate_size=ffn,
        vocab_size=vocabulary,
        sequence_length=length,
        micro_batch_size=batch,
        num_labels=labels,
    )


def model_of(family: str, head: str, sizes: tuple[int, ...], attention: str = "eager") -> torch.nn.Module:
    layers, width, heads, ffn, vocabulary, length, _, labels = sizes
    common: dict[str, Any] = {"vocab_size": vocabulary, "num_labels": labels, "attn_implementation": attention}
    if family == "bert":
        config: Any = BertConfig(
            num_hidden_layers=layers,
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=ffn,
            max_position_embeddings=max(512, length),
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            problem_type="single_label_classification",
            **common,
        )
    else:
        ids = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
        drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        config = GPT2Config(
            n_layer=layers,
            n_embd=width,
            n_head=heads,
            n_inner=ffn,
            n_positions=max(1024, length),
            **common,
            **ids,
            **drops,
        )
    return MODELS[family, head](config).train()
