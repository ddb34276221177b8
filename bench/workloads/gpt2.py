"""Hugging Face GPT-2: a classifier over its last token, or a causal language model."""

from pathlib import Path

import torch
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from joulelaw.bench.configuration import Configuration
from joulelaw.bench.workloads import BlockSplit, TrainingModel
from joulelaw.bench.workloads.hugging_face import Family, build_model

# As published; a longer sequence gets as many positions as it needs.
MIN_POSITIONS = 1024


def sizes(config: GPT2Config) -> dict[str, int]:
    """A GPT-2 configuration's shape, in our names."""
    return {
        "num_layers": config.n_layer,
        "hidden_size": config.n_embd,
        "num_heads": config.n_head,
        "intermediate_size": config.n_inner or 4 * config.n_embd,  # the library's own default
        "vocab_size": config.vocab_size,
    }


FAMILY = Family(
    heads={"classification": GPT2ForSequenceClassification, "language_model": GPT2LMHeadModel},
    sizes=sizes,
    dropouts=("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    blocks="transformer.h",
    pretrained=("transformer.",),
    split=BlockSplit(
        by_columns=("attn.c_attn", "mlp.c_fc"),
        by_rows=("attn.c_proj", "mlp.c_proj"),
        fused={"attn.c_attn": 3},  # q, k, v
        widths=("attn.split_size",),
        transposed=True,
    ),
)


def build(configuration: Configuration, device: torch.device, root: Path) -> TrainingModel:
    """GPT-2 in training mode, fp32, on the device."""
    published = GPT2Config(
        n_layer=configuration.num_layers,
        n_embd=configuration.hidden_size,
        n_head=configuration.num_heads,
        n_inner=configuration.intermediate_size,
        vocab_size=configuration.vocab_size,
        n_positions=max(MIN_POSITIONS, configuration.sequence_length),
    )
    return build_model(FAMILY, published, configuration, device, root)
