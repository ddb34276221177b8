"""What is measured, part by part: a table, with sizes for a GPU and, for a dry run, for a processor core."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

RANK_MODULE = "joulelaw.bench.gpu_check"


@dataclass(frozen=True)
class Part:
    """One measurement by one process on the device: `function` ("module:name") is called with `arguments`."""

    step: str
    name: str
    function: str
    seconds: float
    """About how long it takes on a GPU; it is given up after a few times that."""
    arguments: dict[str, Any] = field(default_factory=dict)
    closely: bool = False
    """The meter is read every millisecond, so that ticks of its counter and updates of its power can be told."""


BERT_BASE = {"num_layers": 12, "hidden_size": 768}
BERT_LARGE = {"num_layers": 24, "hidden_size": 1024}
TINY = {"num_layers": 2, "hidden_size": 64}
# The cases of the steps: a batch of 32, at two lengths.
BATCH, LENGTHS = 32, (128, 512)
SIDES = (1024, 2048, 4096, 8192, 16384)


def parts(precisions: Sequence[str], *, dry: bool) -> tuple[Part, ...]:
    """All parts but the sweep, in order. `precisions` are those that the device can train in."""
    return (
        *_equal(precisions, dry),
        *_meter(precisions, dry),
        *_peaks(precisions, dry),
        *_steps(precisions, dry),
    )


def _equal(precisions: Sequence[str], dry: bool) -> Iterator[Part]:
    shape = TINY if dry else {"num_layers": 2, "hidden_size": 256}
    for family in ("bert",) if dry else ("bert", "gpt2"):
        for precision in precisions:
            arguments = {"family": family, "precision": precision, "shape": shape, "compiled": False}
            yield Part("equal", f"{family} {precision}", "equal:compare", 10, arguments)
    for precision in () if dry else [each for each in ("fp32", "bf16") if each in precisions]:
        arguments = {"family": "bert", "precision": precision, "shape": shape, "compiled": True}
        yield Part("equal", f"bert {precision} compiled", "equal:compare", 60, arguments)


def _meter(precisions: Sequence[str], dry: bool) -> Iterator[Part]:
    seconds = 1.2 if dry else 10.0
    model = _model(precisions, TINY if dry else BERT_BASE, 4 if dry else BATCH, 32 if dry else 128)
    yield Part("meter", "idle", "loads:idle", seconds + 6, {"seconds": seconds, **({"rest_s": 0.0} if dry else {})})
    product = {"precision": model["precision"], "side": 256 if dry else 8192}
    for name, rest_s in (("steady product", 0.0), ("product, 0.4 s of every 0.8 s", 0.4)):
        arguments = {**product, "seconds": seconds, "rest_s": rest_s}
        yield Part("meter", name, "loads:product", seconds + 5, arguments)
    arguments = {**product, "seconds": min(seconds, 3.0), "rest_s": 0.0}
    yield Part("meter", "ticks", "loads:product", 8, arguments, closely=True)
    yield Part("meter", "training", "loads:training", seconds + 10, {"model": model, "seconds": seconds})
    pairs, pair_s = (2, 0.5) if dry else (10, 1.5)
    arguments = {"model": model, "pairs": pairs, "seconds": pair_s}
    yield Part("meter", "sampler overhead", "loads:overhead", 2 * pairs * pair_s + 10, arguments)


def _peaks(precisions: Sequence[str], dry: bool) -> Iterator[Part]:
    for precision in precisions:
        arguments = {"precision": precision, "sides": (128, 256) if dry else SIDES, "seconds": 0.1 if dry else 1.0}
        yield Part("peaks", precision, "peaks:products", 12, arguments)
    arguments = {"size_bytes": 2**22 if dry else 2**31, "seconds": 0.2 if dry else 2.0}
    yield Part("peaks", "copy", "peaks:copy", 5, arguments)


def _steps(precisions: Sequence[str], dry: bool) -> Iterator[Part]:
    rounds, seconds = (2, 0.4) if dry else (6, 2.0)
    models = {"tiny": TINY} if dry else {"BERT-base": BERT_BASE, "BERT-large": BERT_LARGE}
    for name, shape in models.items():
        for length in (32,) if dry else LENGTHS:
            model = _model(precisions, shape, 2 if dry else BATCH, length)
            arguments = {"model": model, "rounds": rounds, "seconds": seconds}
            yield Part("steps", f"{name}, {length} tokens", "steps:beside_plain", 2 * rounds * seconds + 15, arguments)


def _model(precisions: Sequence[str], shape: dict[str, int], batch: int, length: int) -> dict[str, Any]:
    precision = "bf16" if "bf16" in precisions else "fp16"
    return {**shape, "micro_batch_size": batch, "sequence_length": length, "precision": precision}
