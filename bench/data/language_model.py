"""Labels for language models, for any source of batches: the next token (GPT-2), or tokens that were masked (BERT).

Labels have the shape of `input_ids`; -100 marks what is not scored. Every full sequence has the same number of scored
tokens, so that the mean over ranks and micro-steps is the mean over the global batch. Padded sequences have fewer,
and a strategy averages its ranks' means, each over its own tokens: then the loss of N ranks differs a little from
that of one device, as it does in the loops of most users.
"""

from dataclasses import dataclass

import torch

from joulelaw.bench.data.batches import Batch, Source, mixed_seed

NOT_SCORED = -100
# Devlin et al. 2019, "BERT", section 3.1. There a masked token is at times left or replaced: that costs no energy.
MASKED_PERCENT = 15


@dataclass(frozen=True)
class NextToken:
    """Labels of a causal language model: the tokens themselves. The model compares each with the one before it."""

    source: Source

    def global_batch(self, step: int, micro: int) -> Batch:
        """The source's micro-batch, labelled."""
        batch = self.source.global_batch(step, micro)
        return {**batch, "labels": batch["input_ids"].masked_fill(~is_token(batch), NOT_SCORED)}


@dataclass(frozen=True)
class MaskedTokens:
    """Labels of a masked language model: 15 % of each sequence's tokens, rounded up, are masked and scored."""

    source: Source
    mask_token: int
    seed: int

    def global_batch(self, step: int, micro: int) -> Batch:
        """The source's micro-batch, masked and labelled. Special tokens may be drawn as any other."""
        batch = self.source.global_batch(step, micro)
        ids, tokens = batch["input_ids"], is_token(batch)
        generator = torch.Generator(ids.device).manual_seed(mixed_seed(self.seed, step, micro, MASKED_PERCENT))
        # A random order of each sequence's tokens, padding last; the first of them are masked.
        keys = torch.rand(ids.shape, generator=generator, device=ids.device).masked_fill(~tokens, torch.inf)
        counts = (MASKED_PERCENT * tokens.sum(1, keepdim=True) + 99) // 100
        masked = keys.argsort(1).argsort(1) < counts
        labels = ids.masked_fill(~masked, NOT_SCORED)
        return {**batch, "input_ids": ids.masked_fill(masked, self.mask_token), "labels": labels}


def is_token(batch: Batch) -> torch.Tensor:
    """Where a batch holds tokens, not padding."""
    return batch["attention_mask"].bool() if "attention_mask" in batch else torch.ones_like(batch["input_ids"]).bool()
