"""What LSTM and GRU share: torch's own layers between word embeddings and a linear head. One device trains them."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from joulelaw.bench.data.batches import PADDING
from joulelaw.bench.data.language_model import NOT_SCORED
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.workloads import BlockSplit, TrainingModel


@dataclass(frozen=True)
class Output:
    """The loss, and what it was made of."""

    loss: torch.Tensor
    logits: torch.Tensor


class RecurrentModel(nn.Module):
    """Words, recurrent layers, and a head: classes of a sequence, or of each token's next one (words not tied)."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], configuration: Configuration) -> None:
        super().__init__()
        c = configuration
        self.is_language_model = c.head == "language_model"
        width = c.input_size or c.hidden_size
        self.words = nn.Embedding(c.vocab_size, width, padding_idx=PADDING)
        between = c.dropout if c.num_layers > 1 else 0.0
        self.layers = kind(width, c.hidden_size, c.num_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(c.dropout)
        self.head = nn.Linear(c.hidden_size, c.vocab_size if self.is_language_model else c.num_labels)

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> Output:
        """The mean loss over sequences, or over tokens that have a next one; padding is on the right."""
        with native_in_fp16(input_ids.device):
            hidden, _ = self.layers(self.words(input_ids))
        return self.loss_of(hidden, labels, attention_mask)

    def loss_of(self, hidden: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Output:
        """The head and its loss, given the last layer's outputs, (sequences, tokens, width)."""
        if self.is_language_model:
            logits = self.head(self.dropout(hidden[:, :-1]))
            following = labels[:, 1:].flatten()
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), following, ignore_index=NOT_SCORED)
        else:
            logits = self.head(self.dropout(_last(hidden, attention_mask)))
            loss = functional.cross_entropy(logits.float(), labels)
        return Output(loss, logits)


def _last(hidden: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Each sequence's output at its last token."""
    if attention_mask is None:
        return hidden[:, -1]
    at = attention_mask.sum(1) - 1
    return hidden[torch.arange(len(hidden), device=hidden.device), at]


def native_in_fp16(device: torch.device) -> AbstractContextManager[None]:
    """torch's own kernels where fp16 is computed on a CPU: oneDNN's fused LSTM has none for it."""
    if device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.float16:
        return torch.backends.mkldnn.flags(enabled=False, allow_tf32=None)
    return nullcontext()


def build_model(
    kind: type[nn.LSTM] | type[nn.GRU], configuration: Configuration, device: torch.device
) -> TrainingModel:
    """The model in training mode, fp32, on the device. Its layers are one block, which no ranks share."""
    model = RecurrentModel(kind, configuration).to(device).train()
    return TrainingModel(module=model, blocks=(model.layers,), split=BlockSplit(by_columns=(), by_rows=()))
