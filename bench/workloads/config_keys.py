"""What a Hugging Face config.json calls our axes, by model family. Read without torch: a plan needs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ConfigKeys:
    """One family's names, and how many positions it was published with."""

    axes: Mapping[str, str]
    """Axis of the configuration -> its key."""
    positions: str
    published_positions: int

    def sizes(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The shape that a config.json has, under the names of our axes; unchecked, None where it says nothing."""
        found = {axis: config.get(key) for axis, key in self.axes.items()}
        width = found["hidden_size"]
        if (
            self.axes["intermediate_size"] == "n_inner"
            and found["intermediate_size"] is None
            and isinstance(width, int)
        ):
            found["intermediate_size"] = 4 * width  # GPT-2's own rule
        return found

    def config(self, sizes: Mapping[str, int], sequence_length: int) -> dict[str, int]:
        """The settings of a model of this shape (by axis). A longer sequence gets the positions that it needs."""
        settings = {key: sizes[axis] for axis, key in self.axes.items()}
        return settings | {self.positions: max(self.published_positions, sequence_length)}


CONFIG_KEYS = {
    "bert": ConfigKeys(
        axes={
            "num_layers": "num_hidden_layers",
            "hidden_size": "hidden_size",
            "num_heads": "num_attention_heads",
            "intermediate_size": "intermediate_size",
            "vocab_size": "vocab_size",
        },
        positions="max_position_embeddings",
        published_positions=512,
    ),
    "gpt2": ConfigKeys(
        axes={
            "num_layers": "n_layer",
            "hidden_size": "n_embd",
            "num_heads": "n_head",
            "intermediate_size": "n_inner",
            "vocab_size": "vocab_size",
        },
        positions="n_positions",
        published_positions=1024,
    ),
}
