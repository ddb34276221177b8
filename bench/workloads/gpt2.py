"""Hugging Face GPT-2: a classifier over its last token, or a causal language model."""

from pathlib import Path

import torch
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.workloads import BlockSplit, TrainingModel
from joulelaw.bench.workloads.config_keys import CONFIG_KEYS
from joulelaw.bench.workloads.hugging_face import Family, build_model

FAMILY = Family(
    heads={"classification": GPT2ForSequenceClassification, "language_model": GPT2LMHeadModel},
    config=GPT2Config,
    keys=CONFIG_KEYS["gpt2"],
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
    return build_model(FAMILY, configuration, device, root)
