"""What is trained: configurations on one device, from a few numbers. Read without torch."""

from typing import Any

from joulelaw.bench.spec.configuration import Configuration

VOCABULARY = 30522


def configuration(model: dict[str, Any], gpu_model: str = "", **changes: Any) -> Configuration:
    """BERT of this shape on one device, unless `changes` say otherwise. Heads are 64 wide, the inner layer 4 times."""
    width = model["hidden_size"]
    values = {
        "gpu_model": gpu_model,
        "gpu_count": 1,
        "strategy": "single",
        "num_heads": width // 64,
        "intermediate_size": 4 * width,
        "vocab_size": VOCABULARY,
        **model,
        **changes,
    }
    return Configuration(**values)
