"""P2's operations: FLOPs equal to torch's own count, to the published data's column, and to the whole model's body."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from joulelaw import InputError
from joulelaw.model.operations import FLOP, forward_calls, network_of

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published" / "ecai2025"
B, S, H, WIDTH, HEADS, LAYERS = 3, 10, 16, 24, 4, 2
ROW = pd.DataFrame(
    [{"micro_batch_size": B, "sequence_length": S, "hidden_size": H, "input_size": WIDTH, "num_layers": LAYERS}]
)


def counted(work: object, *tensors: torch.Tensor) -> int:
    assert callable(work)
    with FlopCounterMode(display=False) as counter:
        work(*tensors)
    return counter.get_total_flops()


def total(network: str, table: pd.DataFrame, *operations: str) -> float:
    return float(sum((c.flop * c.number)[0] for c in forward_calls(network, table) if c.operation in operations))


def test_a_transformers_products_have_the_flops_that_torch_counts() -> None:
    x, heads = torch.rand(B, S, H), torch.rand(B, HEADS, S, H // HEADS)
    scores = torch.rand(B, HEADS, S, S)
    flop = {name: formula(B, S, H, WIDTH) for name, formula in FLOP["transformer"].items()}
    assert flop["qkv_projections"] == counted(torch.nn.Linear(H, 3 * H), x)
    assert flop["attention_scores"] == counted(torch.matmul, heads, heads.transpose(2, 3))
    assert flop["attention_output"] == counted(torch.matmul, scores, heads)
    assert flop["final_projection"] == counted(torch.nn.Linear(H, H), x)


@pytest.mark.parametrize(("network", "cell"), [("lstm", torch.nn.LSTMCell), ("gru", torch.nn.GRUCell)])
def test_a_recurrent_networks_gating_has_the_flops_of_torchs_cells(
    network: str, cell: type[torch.nn.LSTMCell] | type[torch.nn.GRUCell]
) -> None:
    first, later = counted(cell(WIDTH, H), torch.rand(B, WIDTH)), counted(cell(H, H), torch.rand(B, H))
    assert total(network, ROW, "input_gating", "hidden_gating") == S * (first + (LAYERS - 1) * later)


def test_elementwise_work_is_counted_a_step_and_layer() -> None:
    assert total("lstm", ROW, "activations", "cell_update", "hidden_update") == (4 + 2 + 2) * B * H * S * LAYERS
    assert total("gru", ROW, "activations", "hidden_update") == (3 + 3) * B * H * S * LAYERS


def test_every_published_timing_has_the_flops_of_the_closed_form() -> None:
    timings = pd.read_parquet(PUBLISHED / "operations" / "ecai2025.parquet")
    for (network, operation), part in timings.groupby(["model_family", "operation"]):
        columns = ["micro_batch_size", "sequence_length", "hidden_size", "input_size"]
        flop = FLOP[str(network)][str(operation)](*part[columns].to_numpy(dtype=float).T)
        np.testing.assert_array_equal(flop, part["flop"])


def test_without_an_input_size_the_first_layer_is_as_wide_as_the_others() -> None:
    narrow = ROW.drop(columns="input_size")
    assert total("lstm", narrow, "input_gating") == S * LAYERS * 8 * B * H * H


def test_a_family_without_operations_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="'resnet'"):
        network_of("resnet")
