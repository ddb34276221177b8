"""Peak memory of ranks beside what the closed form says of it: strategies x precisions x shapes x options, on this CPU.

    python benchmarks/memory.py [--only TEXT ...]

Every case runs its ranks through the trials' own entry: one step to warm up and two more. Measured is the largest
rank's peak resident set less what it held before its model; predicted is `memory_bytes_per_device`. `--only` keeps
the cases whose description has every text given. Prints Markdown and, last, one JSON object.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from measuring import ROOT, machine, table

sys.path.insert(0, str(ROOT))

from joulelaw.bench.spec.configuration import Configuration, TrialSpec
from joulelaw.bench.training.precision import TRAINABLE
from tests.bench.test_peak_memory import (
    ACTIVATIONS,
    LAYERS,
    PARAMETERS,
    SCORES,
    TOLERANCE,
    WINDOW,
    predicted_bytes,
)
from tests.bench.trial_ranks import TINY, run_trial

RANKS = {"single": 1, "ddp": 2, "fsdp": 2, "tp": 2, "fsdp_tp": 4, "zero1": 2, "zero2": 2, "zero3": 2}
SHAPES = {"embeddings": PARAMETERS, "layers": LAYERS, "activations": ACTIVATIONS}
TWICE: dict[str, Any] = {"grad_accumulation": 2}
LANGUAGE_MODEL: dict[str, Any] = {"head": "language_model", "micro_batch_size": 16}
OPTIONS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    (ACTIVATIONS, {"dropout": 0.1}),
    (ACTIVATIONS, {"activation_checkpointing": True}),
    (SCORES, {"attention": "eager"}),
    (SCORES, {"attention": "eager", "dropout": 0.1}),
    (SCORES, {"dropout": 0.1}),
    (SCORES, {"attention": "eager", "activation_checkpointing": True}),
    (PARAMETERS, LANGUAGE_MODEL),
    (PARAMETERS, LANGUAGE_MODEL | TWICE),
)


def cases() -> Iterator[tuple[str, Configuration]]:
    """Every strategy in every precision on every shape; then every option of both families on one device."""
    for strategy, precision, (name, sizes) in product(RANKS, TRAINABLE["cpu"], SHAPES.items()):
        yield _case(name, strategy, sizes, {"precision": precision})
    for strategy, precision in product(RANKS, ("fp32", "bf16")):
        yield _case("embeddings", strategy, PARAMETERS, {"precision": precision} | TWICE)
    for family, precision, (sizes, options) in product(("bert", "gpt2"), ("fp32", "bf16"), OPTIONS):
        name = "scores" if sizes is SCORES else "activations" if sizes is ACTIVATIONS else "embeddings"
        yield _case(name, "single", sizes, {"precision": precision, "model_family": family} | options)
    for strategy in ("fsdp", "zero3", "ddp"):
        yield _case("embeddings", strategy, PARAMETERS, LANGUAGE_MODEL | {"model_family": "gpt2"})
        yield _case("activations", strategy, ACTIVATIONS, {"activation_checkpointing": True, "model_family": "gpt2"})


def _case(name: str, strategy: str, sizes: dict[str, Any], changes: dict[str, Any]) -> tuple[str, Configuration]:
    split = {"tensor_parallel": 2} if strategy in {"tp", "fsdp_tp"} else {}
    asked = replace(TINY, strategy=strategy, gpu_count=RANKS[strategy], **sizes | split | changes)  # type: ignore[arg-type]
    options = ", ".join(f"{key} {value}" for key, value in changes.items() if key not in {"precision", "model_family"})
    return f"{strategy} {asked.model_family} {asked.precision} {name} {options}".strip(), asked


def measured_bytes(configuration: Configuration) -> int:
    """What the largest rank came to hold."""
    with tempfile.TemporaryDirectory(prefix="joulelaw-memory-") as folder:
        outcomes = run_trial(Path(folder), TrialSpec(configuration, window=WINDOW))
        done = [each.one("done") for each in outcomes]
        return max(int(each["peak_memory_bytes"] - each["base_memory_bytes"]) for each in done)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    only = parser.parse_args(arguments).only
    print(f"{machine()}.\n")
    rows, ratios, failed = [], [], []
    for name, configuration in cases():
        if not all(text in name for text in only):
            continue
        try:
            measured, predicted = measured_bytes(configuration), predicted_bytes(configuration)
        except AssertionError as error:
            failed.append(name)
            print(f"{name}: {str(error)[-300:]}", file=sys.stderr)
            continue
        ratios.append(predicted / measured)
        rows.append((name, f"{measured / 1e6:.0f}", f"{predicted / 1e6:.0f}", f"{ratios[-1]:.3f}"))
        print(*rows[-1], file=sys.stderr, flush=True)
    print(table(("case", "measured, MB", "predicted, MB", "predicted / measured"), rows))
    outside = sum(abs(ratio - 1) > TOLERANCE for ratio in ratios)
    least, most = (min(ratios), max(ratios)) if ratios else (None, None)
    print(json.dumps({"cases": len(ratios), "outside": outside, "failed": failed, "least": least, "most": most}))
    return 1 if outside or failed or not ratios else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
