"""Batches made on the device before anything is timed: synthetic ones whose labels can be learnt, and ranks' shares.

Each label owns a few marker tokens. A sequence begins with one of its label's markers, a quarter of its other
tokens are markers too, and the rest is noise that all labels share. Every sequence is full: no padding.
"""

import hashlib
from dataclasses import dataclass
from typing import Protocol

import torch

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Configuration

Batch = dict[str, torch.Tensor]

MARKERS_PER_LABEL = 8
MARKER_SHARE = 0.25
# Steps after which the batches repeat, as the epochs of a small data set do.
EPOCH_STEPS = 16
# The id of padding, in every kind of batch and in the workloads' models; with padding there is an `attention_mask`.
PADDING = 0


class Source(Protocol):
    """Where a trial's batches come from."""

    def global_batch(self, step: int, micro: int) -> Batch:
        """The micro-batch of all data-parallel ranks together."""
        ...


@dataclass(frozen=True)
class SyntheticText:
    """An endless, seeded source of global batches of one shape."""

    vocab_size: int
    sequence_length: int
    num_labels: int
    sequences: int
    """In one global micro-batch: those of all data-parallel ranks together."""
    seed: int
    device: torch.device

    @classmethod
    def of(cls, configuration: Configuration, ranks: int, seed: int, device: torch.device) -> "SyntheticText":
        """The source for a configuration on this many data-parallel ranks.

        Raises:
            InputError: fewer than two labels, or a vocabulary too small to tell the labels apart.
        """
        if configuration.num_labels < 2:
            raise InputError(f"{configuration.num_labels} labels", where="num_labels", remedy="at least 2")
        smallest = 2 * configuration.num_labels + 1
        if configuration.vocab_size < smallest:
            raise InputError(
                f"a vocabulary of {configuration.vocab_size} for {configuration.num_labels} labels",
                where="vocab_size",
                remedy=f"at least {smallest}",
            )
        return cls(
            vocab_size=configuration.vocab_size,
            sequence_length=configuration.sequence_length,
            num_labels=configuration.num_labels,
            sequences=ranks * configuration.micro_batch_size,
            seed=seed,
            device=device,
        )

    def global_batch(self, step: int, micro: int) -> Batch:
        """The micro-batch of all ranks together: `input_ids` (sequences, length) and `labels` (sequences,).

        It depends on the seed, the step, the micro-step and the shape alone, so that N ranks with B sequences
        each and one rank with N*B train on the same data.
        """
        generator = torch.Generator(self.device)
        generator.manual_seed(mixed_seed(self.seed, step, micro))
        shape = (self.sequences, self.sequence_length)
        markers = min(MARKERS_PER_LABEL, (self.vocab_size - 1) // (2 * self.num_labels))
        first_noise = 1 + self.num_labels * markers  # padding is never drawn

        def draw(low: int, high: int, size: tuple[int, ...]) -> torch.Tensor:
            return torch.randint(low, high, size, generator=generator, device=self.device)

        labels = draw(0, self.num_labels, (self.sequences,))
        marked = 1 + labels[:, None] * markers + draw(0, markers, shape)
        is_marked = torch.rand(shape, generator=generator, device=self.device) < MARKER_SHARE
        is_marked[:, 0] = True  # the shortest sequence, too, tells its label
        noise = draw(first_noise, self.vocab_size, shape)
        return {"input_ids": torch.where(is_marked, marked, noise), "labels": labels}


def share_of(batch: Batch, rank: int, ranks: int) -> Batch:
    """One data-parallel rank's sequences of a global batch, padded to the longest of its own."""
    share = {name: tensor.chunk(ranks)[rank] for name, tensor in batch.items()}
    longest = int(share["attention_mask"].sum(1).max()) if "attention_mask" in share else None
    # Padding is on the right; only labels of whole sequences have no length.
    return {name: (each[:, :longest] if each.dim() == 2 else each).contiguous() for name, each in share.items()}


def tokens_of(batch: Batch) -> tuple[int, int]:
    """Tokens of a batch: without padding, and as computed."""
    padded = batch["input_ids"].numel()
    return int(batch["attention_mask"].sum()) if "attention_mask" in batch else padded, padded


class Epoch:
    """One rank's micro-batches of `EPOCH_STEPS` steps, held on the device, handed out again and again."""

    def __init__(self, source: Source, rank: int, ranks: int, micro_steps: int) -> None:
        """`micro_steps` is the number of micro-steps in a step."""
        self._steps = [
            [share_of(source.global_batch(step, micro), rank, ranks) for micro in range(micro_steps)]
            for step in range(EPOCH_STEPS)
        ]
        self._tokens = [tuple(map(sum, zip(*map(tokens_of, step), strict=True))) for step in self._steps]

    def tokens(self, first: int, count: int) -> tuple[int, int]:
        """This rank's tokens of `count` steps from the step `first` on: without padding, and as computed."""
        counted = [self._tokens[step % EPOCH_STEPS] for step in range(first, first + count)]
        return sum(true for true, _ in counted), sum(padded for _, padded in counted)

    def step(self, step: int) -> list[Batch]:
        """The micro-batches of a step, counted from 0."""
        return self._steps[step % EPOCH_STEPS]


def mixed_seed(*numbers: int) -> int:
    """A 63-bit seed from several numbers: neighbours give unrelated streams."""
    digest = hashlib.sha256("/".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
