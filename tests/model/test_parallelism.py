"""Work, traffic and communication of every strategy, by plain arithmetic; real ranks are asked in tests/bench."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from joulelaw import InputError
from joulelaw.model.hardware import UnknownDevice
from joulelaw.model.parallelism import STRATEGIES, counts
from tests.model.rows import BERT_BASE, CATALOGUE, ROW, count

SHARDING = ("ddp", "fsdp", "zero1", "zero2", "zero3")


def ring_all_reduce_bytes(ranks: int, size: float) -> float:
    """What one rank sends when chunks of 1/N go round: N-1 times to sum, N-1 times to share."""
    chunk = size / ranks
    return sum(chunk for _ in range(ranks - 1)) + sum(chunk for _ in range(ranks - 1))


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_ddp_sends_one_ring_of_fp32_gradients_per_step(ranks: int) -> None:
    for precision in ("fp32", "bf16"):
        row = count(strategy="ddp", gpu_count=ranks, precision=precision, grad_accumulation=4, **BERT_BASE)
        gradients = 4 * (109_482_240 + 2 * 768 + 2)
        assert row["comm_bytes_per_step"] == pytest.approx(ring_all_reduce_bytes(ranks, gradients))
        assert row["comm_bytes_per_micro_step"] == 0
        assert 1 < row["collectives_per_step"] <= 1 + np.ceil((gradients - 2**20) / (25 * 2**20))


@pytest.mark.parametrize(("family", "backward"), [("bert", 4), ("gpt2", 2)])
@pytest.mark.parametrize("degree", [2, 4])
def test_tensor_parallelism_sends_activations(family: str, backward: int, degree: int) -> None:
    """Two all-reduces forward, at autocast's 16 bits; backward one a column-wise product, in fp32."""
    row = count(strategy="tp", gpu_count=degree, model_family=family, precision="bf16")
    activations = 2 * 32 * 128
    sent = 2 * ring_all_reduce_bytes(degree, 2 * activations) + backward * ring_all_reduce_bytes(
        degree, 4 * activations
    )
    assert row["comm_bytes_per_micro_step"] == 3 * sent
    assert row["collectives_per_micro_step"] == 3 * (2 + backward)
    assert (row["comm_bytes_per_step"], row["data_parallel"], row["tensor_parallel"]) == (0, 1, degree)


@pytest.mark.parametrize(("family", "dropout", "repeated"), [("bert", 0.0, 2), ("gpt2", 0.0, 1), ("gpt2", 0.1, 2)])
def test_checkpointing_repeats_the_forward_all_reduces(family: str, dropout: float, repeated: int) -> None:
    """But not the one behind GPT-2's last product, which is not computed again where no dropout needs it."""
    asked = {"strategy": "tp", "gpu_count": 2, "model_family": family, "dropout": dropout}
    off, on = (count(**asked, activation_checkpointing=checkpointing) for checkpointing in (False, True))
    assert on["collectives_per_micro_step"] - off["collectives_per_micro_step"] == 3 * repeated
    assert on["flop_per_micro_step"] == off["flop_per_micro_step"]
    for work in ("gemm_bytes", "elementwise_bytes", "kernels", "hardware_flop"):
        assert 1.1 < on[f"{work}_per_micro_step"] / off[f"{work}_per_micro_step"] < 1.5


def test_fsdp_with_tensor_parallelism_is_both() -> None:
    """FSDP over 2 of what a tensor-parallel rank holds, and tensor parallelism over 2."""
    row = count(strategy="fsdp_tp", gpu_count=4)
    tp = count(strategy="tp", gpu_count=2)
    layer = (4 * 128**2 + 3 * 128 + 2 * 128 * 512 + 512) / 2 + 6 * 128
    root = (2000 + 512 + 2) * 128 + 2 * 128 + 128**2 + 128 + 2 * 128 + 2
    fsdp = 0.5 * (12 * (3 * layer + root) - 4 * root)
    assert (row["data_parallel"], row["tensor_parallel"]) == (2, 2)
    assert row["comm_bytes_per_micro_step"] == fsdp + tp["comm_bytes_per_micro_step"]  # 2 ranks divide every tensor
    assert row["collectives_per_micro_step"] == 11 + 18
    assert count(strategy="fsdp_tp", gpu_count=8, tensor_parallel=4)["data_parallel"] == 2


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_process_sends_nothing(strategy: str) -> None:
    degree = {"tensor_parallel": 1} if strategy == "fsdp_tp" else {}
    row = count(strategy=strategy, **degree)
    assert not row.filter(regex="comm_|collectives").any()
    assert row["flop_per_micro_step"] == count()["flop_per_micro_step"]


@pytest.mark.parametrize("strategy", SHARDING)
def test_data_parallel_ranks_do_whole_micro_batches_and_share_the_optimizer(strategy: str) -> None:
    one, four = count(grad_accumulation=1), count(strategy=strategy, gpu_count=4, grad_accumulation=1)
    assert four["flop_per_micro_step"] == one["flop_per_micro_step"]
    assert four["tokens_per_micro_step"] == one["tokens_per_micro_step"] == 64
    assert four["num_parameters"] == one["num_parameters"]
    assert one["optimizer_bytes_per_step"] == 28 * one["num_parameters"]
    assert four["optimizer_bytes_per_step"] == one["optimizer_bytes_per_step"] / (1 if strategy == "ddp" else 4)


def test_tensor_parallel_ranks_share_the_layers_and_repeat_the_head() -> None:
    one, four = count(), count(strategy="tp", gpu_count=4)
    head = 3 * 2 * 2 * (128 * 128 + 128 * 2)  # training, multiply-add, two sequences, pooler and classifier
    assert 4 * (four["flop_per_micro_step"] - head) == one["flop_per_micro_step"] - head
    assert one["gemm_bytes_per_micro_step"] / 4 < four["gemm_bytes_per_micro_step"] < one["gemm_bytes_per_micro_step"]


def test_half_the_bytes_per_element_is_half_the_activations_where_weights_are_16_bit_too() -> None:
    full, half = (count(strategy="fsdp", gpu_count=2, precision=p) for p in ("fp32", "bf16"))
    ratio = half["elementwise_bytes_per_micro_step"] / full["elementwise_bytes_per_micro_step"]
    assert ratio == pytest.approx(0.5, abs=0.02)


def test_fused_attention_moves_no_scores() -> None:
    """Against eager, whose scores grow with s^2: doubling the length more than doubles only eager's traffic."""
    layer = {"num_layers": 24, "vocab_size": 100, "hidden_size": 64, "intermediate_size": 64}
    growth = {}
    for attention in ("eager", "sdpa"):
        short, long = (
            count(attention=attention, sequence_length=s, **layer)["elementwise_bytes_per_micro_step"]
            for s in (256, 512)
        )
        growth[attention] = long / short
    assert growth["sdpa"] == pytest.approx(2, abs=0.01)
    assert growth["eager"] > 3


def mixed_table() -> pd.DataFrame:
    rows = []
    for number, strategy in enumerate(STRATEGIES):
        for family, precision in (("bert", "fp32"), ("gpt2", "bf16")):
            gpus = {"single": 1}.get(strategy, 4)
            shape = {"num_layers": 2 + number, "sequence_length": 600 if number % 3 else 64}
            attention = ["eager", "sdpa"][number % 2]
            rows.append(ROW | shape | {"strategy": strategy, "model_family": family, "precision": precision})
            rows[-1] |= {"gpu_count": gpus, "attention": attention, "dropout": 0.1 * (number % 2)}
    return pd.DataFrame(rows, index=[f"trial{number * 7}" for number in range(len(rows))])


def test_a_table_gives_what_its_rows_give_alone_with_its_index() -> None:
    table = mixed_table()
    shuffled = table.sample(frac=1, random_state=1)
    alone = pd.concat([counts(table.loc[[name]], CATALOGUE) for name in shuffled.index])
    pd.testing.assert_frame_equal(counts(shuffled, CATALOGUE), alone)
    assert np.isfinite(alone.drop(columns=["power_limit_w", "default_power_limit_w"]).to_numpy()).all()


def test_devices_come_from_the_catalogue_and_the_table_overrides_them() -> None:
    t4 = count(gpu_model="Tesla T4", precision="fp16")
    assert tuple(t4[["peak_flop_per_s", "bandwidth_bytes_per_s", "link_bytes_per_s", "power_limit_w"]]) == (
        65e12,
        320e9,
        16e9,
        70,
    )
    assert np.isnan(count()["power_limit_w"])
    own = count(gpu_model="Tesla T4", power_limit_w=60.0, link_bytes_per_s=8e9, network_bytes_per_s=1e9)
    assert (own["power_limit_w"], own["link_bytes_per_s"]) == (60, 8e9)
    assert count(node_count=2, network_bytes_per_s=1e9)["link_bytes_per_s"] == 1e9
    assert count(gpu_model="Tesla T4", power_limit_w=None)["power_limit_w"] == 70


def test_the_parameters_are_the_published_of_bert_base() -> None:
    """109,482,240 of bert-base-uncased's encoder and pooler, whatever shares them; a masked LM's head has no pooler."""
    classifier, pooler = 768 * 7 + 7, 768**2 + 768
    assert count(num_labels=7, **BERT_BASE)["num_parameters"] == 109_482_240 + classifier
    assert (
        count(strategy="fsdp_tp", gpu_count=8, num_labels=7, **BERT_BASE)["num_parameters"] == 109_482_240 + classifier
    )
    masked = count(head="language_model", **BERT_BASE)["num_parameters"]
    assert masked == 109_482_240 - pooler + (768**2 + 768 + 2 * 768 + 30522)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"gpu_model": "NVIDIA A100"}, UnknownDevice, "NVIDIA A100-SXM4-40GB"),
        ({"gpu_model": "Tesla T4", "precision": "bf16"}, InputError, "Tesla T4 does not support 'bf16'"),
        ({"strategy": "fdsp"}, InputError, "unknown strategy 'fdsp'.*fsdp"),
        ({"model_family": "t5"}, InputError, "unknown model family 't5'"),
        ({"precision": "int8"}, InputError, "unknown precision 'int8'"),
        ({"gpu_count": 2}, InputError, "single on 2 devices"),
        ({"strategy": "fsdp_tp", "gpu_count": 3}, InputError, "3 devices do not divide into groups of 2"),
    ],
)
def test_what_cannot_be_raises(changes: dict[str, Any], error: type[InputError], message: str) -> None:
    with pytest.raises(error, match=message):
        count(**changes)


def test_missing_columns_and_rows_raise() -> None:
    with pytest.raises(InputError, match="columns missing: hidden_size, gpu_count"):
        counts(pd.DataFrame([ROW]).drop(columns=["gpu_count", "hidden_size"]), CATALOGUE)
    with pytest.raises(InputError, match="no rows"):
        counts(pd.DataFrame([ROW]).iloc[:0], CATALOGUE)


def test_a_row_costs_what_one_more_token_does_where_attention_is_left_out() -> None:
    """Products with weights grow with tokens, attention's with their square: two lengths tell them apart."""
    for family, head in (("bert", "classification"), ("gpt2", "language_model")):
        short, long = (count(model_family=family, head=head, sequence_length=s, micro_batch_size=1) for s in (64, 128))
        attention = 24 * ROW["num_layers"] * ROW["hidden_size"] / 2  # 3 x 4 s^2 h a layer
        grown = long["flop_per_micro_step"] - short["flop_per_micro_step"] - attention * (128**2 - 64**2)
        assert grown / 64 == pytest.approx(short["row_flop_per_micro_step"])


def test_gpt2_is_taken_to_learn_a_language_and_bert_to_classify_where_a_table_does_not_say() -> None:
    for family, head in (("bert", "classification"), ("gpt2", "language_model")):
        pd.testing.assert_series_equal(count(model_family=family), count(model_family=family, head=head))
