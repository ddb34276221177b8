"""What is read off a live model, and what is refused by name because the laws do not count it."""

import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from joulelaw import InputError
from joulelaw.bench.commands.law_files import open_law
from joulelaw.bench.live.configuration import Place, Trained, configuration_of, num_parameters
from joulelaw.bench.live.devices import devices_of
from joulelaw.bench.live.forecast import stated
from joulelaw.bench.live.piece import Micro
from joulelaw.bench.live.ranks import Member
from joulelaw.bench.live.steps import StepWatch
from joulelaw.bench.live.strategy import strategy_of_loop, unwrapped
from joulelaw.bench.live.told import told_forecast
from joulelaw.bench.spec.configuration import Configuration
from tests.bench import trial_ranks
from tests.bench.live_trainings import batch, tiny_bert

CPU = torch.device("cpu")
HERE = Place("NVIDIA A100-SXM4-40GB", 1)
TINY = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}


def seen(model: Any, *batches: dict[str, torch.Tensor], run: Callable[[], Any] | None = None) -> StepWatch:
    """One step of these micro-batches, watched."""
    watch = StepWatch(unwrapped(model), CPU)
    watch.attach()
    watch.step_begins()
    for each in batches or (batch(),):
        with run() if run else torch.enable_grad():
            model(**each).loss.backward()
    watch.step_ends()
    watch.finish()
    return watch


def read(model: Any, watch: StepWatch, **settings: Any) -> Configuration:
    trained = {"strategy": "single", "optimizer": torch.optim.AdamW(model.parameters(), lr=2e-5), "device": CPU}
    assert watch.first is not None
    return configuration_of(Trained(model, **{**trained, **settings}), HERE, watch.first, watch.compute_dtype)


def test_gpt2_with_a_language_model_in_autocast_and_accumulation() -> None:
    settings = {"n_layer": 2, "n_embd": 64, "n_head": 2, "vocab_size": 1000, "n_positions": 64, "resid_pdrop": 0.0}
    config = GPT2Config(**settings, attn_implementation="eager")
    model = GPT2LMHeadModel(config).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.randint(5, 1000, (3, 48))
    here = {"input_ids": ids, "labels": ids}
    watch = seen(model, here, here, run=lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    found = read(model, watch)
    assert (found.model_family, found.head, found.precision) == ("gpt2", "language_model", "bf16")
    assert (found.micro_batch_size, found.sequence_length, found.grad_accumulation) == (3, 48, 2)
    assert (found.intermediate_size, found.dropout, found.attention) == (256, 0.0, "eager")
    assert (found.activation_checkpointing, found.learning_rate) == (True, 2e-5)
    assert num_parameters(model) == sum(each.numel() for each in model.parameters())


def test_what_went_through_the_model_is_told_step_by_step() -> None:
    model = tiny_bert()
    watch = seen(model, batch(32), batch(24))
    (record,) = watch.kept.records()
    assert record.micro == Micro(2, 4, 32, 4 * 32 + 4 * 24, False)
    assert record.loss is not None
    assert watch.compute_dtype is torch.float32
    assert watch.first == record.micro
    assert not model._forward_hooks


def test_an_evaluation_between_steps_ends_the_piece() -> None:
    model = tiny_bert()
    watch = StepWatch(model, CPU)
    watch.attach()
    watch.step_begins()
    for step in range(9):
        if step == 5:
            model.eval()
            with torch.no_grad():
                model(**batch())
            model.train()
        model(**batch()).loss.backward()
        watch.step_ends()
    watch.finish()
    assert [each.step for each in watch.kept.records()] == [0, 1, 2, 3, 4]
    assert [each.step for each in watch.piece.records()] == [6, 7, 8], "the evaluation is within step 5's time"


@pytest.fixture(scope="module")
def bert() -> tuple[Any, StepWatch]:
    model = tiny_bert()
    return model, seen(model)


def test_what_the_laws_do_not_count_is_refused_by_name(bert: tuple[Any, StepWatch]) -> None:
    model, watch = bert
    wide = RobertaForSequenceClassification(RobertaConfig(**TINY, vocab_size=1000))
    tagger = BertForTokenClassification(BertConfig(**TINY, vocab_size=1000))
    relu = tiny_bert(hidden_act="relu")
    frozen = tiny_bert()
    frozen.bert.embeddings.requires_grad_(False)
    half = tiny_bert().to(torch.bfloat16)
    flash = tiny_bert()
    flash.config._attn_implementation = "flash_attention_2"
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (wide, {}, "model: RobertaForSequenceClassification is a roberta model"),
        (torch.nn.Linear(2, 2), {}, "model: Linear is no model of transformers"),
        (tagger, {}, "model: the head of BertForTokenClassification"),
        (relu, {}, "model: hidden_act is 'relu'"),
        (frozen, {}, "5 of its parameters are frozen"),
        (half, {}, "precision: weights in bfloat16: with single the laws count fp32 weights"),
        (flash, {}, "attention: 'flash_attention_2'"),
        (model, {"optimizer": sgd}, "optimizer: SGD; the laws count AdamW"),
        (model, {"optimizer": None}, "optimizer: an optimizer that is not known"),
        (model, {"optimizer": SimpleNamespace(optimizer=sgd)}, "optimizer: "),
    ]
    for refused, settings, words in cases:
        with pytest.raises(InputError, match=re.escape(words)):
            read(refused, watch, **settings)


def test_sharded_weights_may_be_of_16_bits() -> None:
    model = tiny_bert().to(torch.bfloat16)
    assert read(model, seen(model), strategy="zero2").precision == "bf16"


def test_strategies_are_told_from_how_the_model_is_wrapped() -> None:
    model = tiny_bert()
    assert strategy_of_loop(model, 1) == "single"
    compiled = torch.nn.Module()
    compiled._orig_mod = model  # as torch.compile has it
    assert strategy_of_loop(compiled, 1) == "single"
    assert unwrapped(compiled) is model
    parallel = torch.nn.DataParallel(model)
    assert unwrapped(parallel) is model
    for wrapped, size, words in ((parallel, 1, "DataParallel"), (model, 2, "2 processes, and a model that neither")):
        with pytest.raises(InputError, match=words):
            strategy_of_loop(wrapped, size)


class DeepSpeedEngine(torch.nn.Module):
    """As DeepSpeed's, as far as it is looked at."""

    def __init__(self, module: torch.nn.Module, stage: int, offload: str | None = None) -> None:
        super().__init__()
        self.module = module
        self.stage, self.offload = stage, offload

    def zero_optimization_stage(self) -> int:
        return self.stage

    def zero_offload_optimizer(self) -> Any:
        return SimpleNamespace(device=self.offload) if self.offload else None

    def zero_offload_param(self) -> Any:
        return None


def test_deepspeed_counts_by_its_stage_and_without_offload() -> None:
    model = tiny_bert()
    assert strategy_of_loop(DeepSpeedEngine(model, 3, "none"), 2) == "zero3"
    assert unwrapped(DeepSpeedEngine(model, 3)) is model
    with pytest.raises(InputError, match="ZeRO stage 0"):
        strategy_of_loop(DeepSpeedEngine(model, 0), 2)
    with pytest.raises(InputError, match="ZeRO 2 with offload"):
        strategy_of_loop(DeepSpeedEngine(model, 2, "cpu"), 2)


def test_each_process_on_a_cpu_has_as_many_cores_as_threads() -> None:
    members = [Member(rank, "here", 10 + rank, 1, None) for rank in range(3)]
    devices = devices_of(members)
    assert len({device.uuid for device in devices}) == 3
    assert {device.model.rpartition("(")[2] for device in devices} == {"1 core)"}
    with pytest.raises(InputError, match="GPU 1234 of rank 0 is not among those that NVML shows"):
        devices_of([Member(0, "here", 10, 1, (0, "1234"))])


def test_the_forecast_at_the_start_says_what_its_joules_lack() -> None:
    """Those of the law that ships are assumed, and of the GPUs alone."""
    law = open_law("default")
    asked = replace(trial_ranks.TINY, gpu_model="Tesla T4", precision="fp16")
    told = list(told_forecast(stated(law, asked, 100, "gpu"), "default", 100))
    assert any("without the host" in line for line in told)
    assert any("assumed" in line for line in told)
