"""Counts of LSTM and GRU equal torch's own: parameters, FLOPs operation for operation, and launches."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from joulelaw import InputError
from joulelaw.bench.data.source import make_source
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.workloads import load_workload
from joulelaw.model.hardware import Catalogue
from joulelaw.model.parallelism import counts
from joulelaw.model.recurrent import FAMILIES
from tests.bench.trial_ranks import TINY
from tests.model.rows import CPU

DEVICE = replace(CPU, name=TINY.gpu_model)
# Nothing square, nothing equal.
SHAPES: list[dict[str, Any]] = [
    {"num_layers": 1, "hidden_size": 24, "input_size": 40, "sequence_length": 7, "num_labels": 5},
    {"num_layers": 3, "hidden_size": 20, "input_size": 12, "sequence_length": 11, "vocab_size": 71},
    {"num_layers": 2, "hidden_size": 16, "input_size": 16, "sequence_length": 2},
]


def configured(family: str, **changes: Any) -> Configuration:
    own = {"model_family": family, "num_heads": 1, "input_size": TINY.hidden_size, "micro_batch_size": 3}
    shape = replace(TINY, **own | changes)
    return replace(shape, intermediate_size=FAMILIES[family].gates * shape.hidden_size)


def closed_forms(configuration: Configuration) -> "pd.Series[float]":
    return counts(pd.DataFrame([configuration.to_dict()]), Catalogue({DEVICE.name: DEVICE})).iloc[0]


def model_and_batch(configuration: Configuration) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    cpu = torch.device("cpu")
    model = load_workload(configuration.model_family).build(configuration, cpu, Path()).module
    return model, make_source(configuration, 0, cpu, Path()).global_batch(0, 0)


@pytest.mark.parametrize("head", ["classification", "language_model"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_and_flops_are_torchs(family: str, head: Any, shape: dict[str, Any]) -> None:
    """With oneDNN off, as its fused LSTM is counted as nothing. The zero initial state gets no gradient: 2 B g h^2 a
    layer fewer than twice the forward pass."""
    asked = configured(family, head=head, **shape)
    model, batch = model_and_batch(asked)
    row = closed_forms(asked)
    assert row["num_parameters"] == sum(parameter.numel() for parameter in model.parameters())
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):  # type: ignore[arg-type]
        with FlopCounterMode(display=False) as forward:
            loss = model(**batch).loss
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    initial = asked.num_layers * 2 * asked.micro_batch_size * FAMILIES[family].gates * asked.hidden_size**2
    assert 3 * forward.get_total_flops() == row["flop_per_micro_step"] == row["hardware_flop_per_micro_step"]
    assert backward.get_total_flops() == 2 * forward.get_total_flops() - initial


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_with_an_initial_state_to_learn_have_all_the_flops(family: str) -> None:
    """The difference above is that of the initial state, and of nothing else."""
    asked = configured(family, **SHAPES[1])
    layers: Any = model_and_batch(asked)[0].layers
    inputs = torch.rand(3, asked.sequence_length, 12, requires_grad=True)
    state = torch.zeros(asked.num_layers, 3, asked.hidden_size, requires_grad=True)
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):  # type: ignore[arg-type]
        with FlopCounterMode(display=False) as forward:
            outputs, _ = layers(inputs, (state, state) if family == "lstm" else state)
        with FlopCounterMode(display=False) as backward:
            outputs.sum().backward()
    assert backward.get_total_flops() == 2 * forward.get_total_flops()


# Views and allocations: no work on the device.
FREE = ("t", "transpose", "transpose_", "view", "_unsafe_view", "unbind", "select", "unsafe_split", "expand", "detach")
FREE_TOO = (
    "zeros",
    "ones_like",
    "empty",
    "empty_like",
    "alias",
    "unsqueeze",
    "squeeze",
    "slice",
    "permute",
    "as_strided",
)


class Launches(TorchDispatchMode):
    """Counts dispatched operations that launch something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name not in FREE and name not in FREE_TOO:
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


def launches(configuration: Configuration) -> int:
    model, batch = model_and_batch(configuration)
    with Launches() as seen:
        model(**batch).loss.backward()
    return seen.found.total()


def test_a_gru_launches_so_many_kernels_a_time_step_and_layer_on_a_cpu() -> None:
    """Dispatched operations of torch's own GRU: the closed form grows as they do, and is about as many."""
    for layers, steps in ((1, 16), (2, 16), (2, 48)):
        asked = configured("gru", num_layers=layers, sequence_length=steps)
        counted, form = launches(asked), closed_forms(asked)["kernels_per_micro_step"]
        assert form == pytest.approx(counted, rel=0.05)


def test_time_steps_come_one_after_the_other() -> None:
    """Twice the steps, twice the launches, whatever the batch; a Transformer's do not depend on either."""
    kernels = [
        closed_forms(replace(configured("lstm"), sequence_length=steps, micro_batch_size=batch))[
            "kernels_per_micro_step"
        ]
        for steps, batch in ((64, 1), (128, 1), (128, 8))
    ]
    assert kernels[1] - kernels[0] == 64 * 4 * TINY.num_layers
    assert kernels[1] == kernels[2]


def test_the_weights_are_read_again_in_each_step() -> None:
    """Half as many sequences of twice the length: as many tokens and FLOPs, and more traffic."""
    short, long = (
        closed_forms(replace(configured("gru"), sequence_length=s, micro_batch_size=B)) for s, B in ((32, 8), (64, 4))
    )
    assert short["flop_per_micro_step"] == pytest.approx(long["flop_per_micro_step"], rel=1e-3)
    h = TINY.hidden_size
    again = TINY.num_layers * 2 * 32 * 3 * h * h * 4
    assert long["gemm_bytes_per_micro_step"] - short["gemm_bytes_per_micro_step"] == pytest.approx(again, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "fsdp", "gpu_count": 2}, "strategy: strategy 'fsdp' on 2 devices, and lstm is counted on one"),
        ({"num_heads": 4}, "num_heads: 4 where 1 must be: lstm has no heads"),
        ({"intermediate_size": 64}, "intermediate_size: 64 where 128 must be: the gates' width"),
    ],
)
def test_what_a_recurrent_network_cannot_have_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        closed_forms(replace(configured("lstm"), **changes))


def test_both_kinds_of_network_have_the_same_counts() -> None:
    """A table may mix them: no column of one may be left empty for the other."""
    mixed = [configured("lstm").to_dict(), TINY.to_dict()]
    apart = [closed_forms(configured("lstm")), closed_forms(TINY)]
    assert set(apart[0].index) == set(apart[1].index)
    together = counts(pd.DataFrame(mixed), Catalogue({DEVICE.name: DEVICE}))
    for row, alone in zip(together.iterrows(), apart, strict=True):
        pd.testing.assert_series_equal(row[1].sort_index(), alone.sort_index(), check_names=False)


def test_the_input_is_as_wide_as_the_layers_where_a_table_does_not_say() -> None:
    row = configured("gru").to_dict()
    without = {name: value for name, value in row.items() if name != "input_size"}
    catalogue = Catalogue({DEVICE.name: DEVICE})
    pd.testing.assert_frame_equal(counts(pd.DataFrame([row]), catalogue), counts(pd.DataFrame([without]), catalogue))
