"""What a Hugging Face config.json calls our axes, by model family. Read without torch: a plan needs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joulelaw import InputError
from joulelaw.model.architecture import FAMILIES


@dataclass(frozen=True)
class ConfigKeys:
    """One family's names, and what a checkpoint of it may decide."""

    axes: Mapping[str, str]
    """Axis of the configuration -> its key."""
    positions: str
    norm_epsilon: str
    published_positions: int
    counted: Mapping[str, Any]
    """Settings of what is computed, as they are counted: the library's own values. No checkpoint may differ."""

    def check(self, config: Mapping[str, Any]) -> None:
        """Raises InputError where a config.json asks for another computation than the one that is counted."""
        for key, value in self.counted.items():
            if config.get(key, value) != value:
                raise InputError(f"{key} is {config[key]!r:.50}", remedy=f"a model with {key} {value!r}")

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
        norm_epsilon="layer_norm_eps",
        published_positions=FAMILIES["bert"].min_positions,
        counted={
            "hidden_act": "gelu",
            "type_vocab_size": FAMILIES["bert"].token_types,
            "position_embedding_type": "absolute",
            "is_decoder": False,
            "add_cross_attention": False,
            "tie_word_embeddings": True,
        },
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
        norm_epsilon="layer_norm_epsilon",
        published_positions=FAMILIES["gpt2"].min_positions,
        counted={
            "activation_function": "gelu_new",
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "reorder_and_upcast_attn": False,
            "add_cross_attention": False,
            "tie_word_embeddings": True,
        },
    ),
}
