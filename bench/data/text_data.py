"""Batches of the user's own labelled texts: shuffled, tokenized, cut to the sequence length, with attention masks.

Only the sequences that an epoch asks for are tokenized, before anything is timed; every rank does so for the global
batch. Padding has id 0, as in the synthetic batches and in the workloads' models, whatever the tokenizer's own is.
The mask tells it from a token 0 of the tokenizer's, with two exceptions: BERT's embedding of it is not trained, and
where a text ends with it ("!" in GPT-2's own vocabulary), GPT-2's classifier takes the token before for the last.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn.utils.rnn import pad_sequence

from joulelaw.bench.data.batches import PADDING, Batch, mixed_seed
from joulelaw.bench.data.text_file import TextFile
from joulelaw.bench.data.text_input import (
    FEWEST_TOKENS,
    check_length,
    check_texts,
    fit_tokenizer,
    load_tokenizer,
    read_texts,
)
from joulelaw.bench.spec.configuration import Configuration, TextData


@dataclass(frozen=True)
class LabelledText:
    """An endless, seeded source of global batches from a file. Each pass over its rows has an order of its own."""

    file: TextFile
    tokenizer: Tokenizer
    tokenizer_path: str
    sequences: int
    """In one global micro-batch: those of all data-parallel ranks together."""
    micro_steps: int
    """In one step."""
    fewest_tokens: int
    seed: int
    device: torch.device
    _orders: dict[int, torch.Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls, configuration: Configuration, data: TextData, ranks: int, seed: int, device: torch.device, root: Path
    ) -> "LabelledText":
        """The source for a configuration on this many data-parallel ranks; files are relative to `root`.

        Raises:
            InputError: a file that is not as it should be (text_file.py, text_input.py).
        """
        file = read_texts(data, configuration.head, root)
        check_texts(file, configuration)
        tokenizer, tokenizer_path = load_tokenizer(root / data.tokenizer), str(root / data.tokenizer)
        fit_tokenizer(tokenizer, configuration, tokenizer_path)
        return cls(
            file=file,
            tokenizer=tokenizer,
            tokenizer_path=tokenizer_path,
            sequences=ranks * configuration.micro_batch_size,
            micro_steps=configuration.grad_accumulation,
            fewest_tokens=FEWEST_TOKENS[configuration.head],
            seed=seed,
            device=device,
        )

    def global_batch(self, step: int, micro: int) -> Batch:
        """The micro-batch of all ranks together: `input_ids` and `attention_mask` (sequences, longest), and `labels`.

        It depends on the file, the seed, the step, the micro-step and the sizes alone. Where the rows end, the next
        pass begins: in the micro-batch that spans both, a row may occur twice. Without labels there are none.
        """
        rows = self.rows(step, micro)
        encoded = self.tokenizer.encode_batch_fast([self.file.texts[row] for row in rows])
        ids = [torch.tensor(each.ids, dtype=torch.int64) for each in encoded]
        for row, tokens in zip(rows, ids, strict=True):
            check_length(len(tokens), self.fewest_tokens, self.file.where(row))
        batch = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=PADDING),
            "attention_mask": pad_sequence([torch.ones_like(tokens) for tokens in ids], batch_first=True),
        }
        if self.file.labels:
            batch["labels"] = torch.tensor([self.file.labels[row] for row in rows])
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def rows(self, step: int, micro: int) -> list[int]:
        """The file's rows that a micro-batch is made of."""
        first, count = (step * self.micro_steps + micro) * self.sequences, len(self.file.texts)
        places = [divmod(place, count) for place in range(first, first + self.sequences)]
        return [int(self._order(number)[place]) for number, place in places]

    def _order(self, number: int) -> torch.Tensor:
        """The order of the rows in a pass, drawn once. On the CPU: every kind of device sees the same."""
        if number not in self._orders:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, number))
            self._orders[number] = torch.randperm(len(self.file.texts), generator=generator)
        return self._orders[number]
