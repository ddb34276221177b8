"""A trial on forked ranks: every step timed on every rank, the loss falls, mistakes are told, nothing is inherited."""

import gc
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joulelaw.bench.spec.configuration import TrialSpec, Window
from joulelaw.bench.training.rank import form_group, make_epoch, prepare
from joulelaw.bench.training.rank_state import claim_device
from joulelaw.bench.training.stepping import StepLoop
from joulelaw.cluster.ranks.rank import RankContext
from tests.bench.trial_ranks import TINY, Outcome, fork_server, run_ranks, run_trial

pytestmark = pytest.mark.xdist_group("ranks")

WINDOW = Window(warmup_steps=2, min_steps=5)


def spec_of(window: Window = WINDOW, **changes: Any) -> TrialSpec:
    return TrialSpec(replace(TINY, **changes), seed=1, window=window)


def only(outcomes: list[Outcome]) -> Outcome:
    assert len(outcomes) == 1
    assert outcomes[0].exit_status == 0, outcomes
    return outcomes[0]


def test_the_loss_falls_on_synthetic_data(tmp_path: Path) -> None:
    losses = only(run_trial(tmp_path, spec_of(Window(min_steps=80)))).losses()
    assert losses[0] == pytest.approx(math.log(2), abs=0.2), "two labels, nothing known yet"
    assert max(losses[-10:]) < 0.2 * losses[0]


@pytest.mark.parametrize(("strategy", "ranks"), [("single", 1), ("fsdp", 2), ("zero1", 2)])
def test_every_step_is_timed_on_every_rank_inside_the_window(strategy: str, ranks: int, tmp_path: Path) -> None:
    outcomes = run_trial(tmp_path, spec_of(strategy=strategy, gpu_count=ranks, grad_accumulation=2))
    assert [outcome.exit_status for outcome in outcomes] == [0] * ranks
    for outcome in outcomes:
        window, rows = outcome.one("window"), outcome.steps()
        assert [row[0] for row in rows] == list(range(7))
        assert [row[1] for row in rows] == [False] * 2 + [True] * 5
        times = [time for row in rows for time in row[2:4]]
        assert times == sorted(times)
        assert all(begin < end for _, _, begin, end, _ in rows)
        assert rows[1][3] <= window["begin_ns"] <= rows[2][2]
        assert rows[-1][3] <= window["end_ns"]
        assert (window["measured_steps"], window["warmup_steps"]) == (5, 2)
        done = outcome.one("done")
        assert done["micro_steps"] == 10
        assert (done["loss_first"], done["loss_last"]) == (rows[0][4], rows[-1][4])
        assert done["backend"] == ("gloo" if ranks > 1 else "")
        assert done["num_parameters"] * 16 < done["peak_memory_bytes"] < 2**31
        assert 0 < done["base_memory_bytes"] < done["peak_memory_bytes"]
    assert len({outcome.one("ready")["pid"] for outcome in outcomes}) == ranks


def close_and_let_go(payload: dict[str, Any], context: RankContext) -> None:
    """An entry: a trial's end, and which threads are left once its model is gone."""
    spec = TrialSpec.from_dict(payload["trial"])
    device = claim_device(context)
    group = form_group(spec, context, device)
    stepper, _ = prepare(spec, group, device, Path())
    StepLoop(stepper, make_epoch(spec, group, device, Path()), group, device, context.emit).run(spec.window)
    group.close()
    del stepper
    gc.collect()
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    context.emit({"kind": "threads", "names": threads})


def test_the_end_of_a_model_does_not_wait_for_its_communication_threads(tmp_path: Path) -> None:
    """DDP's reducer would, with the interpreter's lock that such a thread may wait for: a rank in twelve hung."""
    payload = {"trial": spec_of(strategy="ddp", gpu_count=2).to_dict()}
    for outcome in run_ranks(tmp_path, "tests.bench.test_trial:close_and_let_go", payload, 2):
        assert outcome.exit_status == 0
        assert "pt_gloo_runloop" in outcome.one("threads")["names"], "it is never joined"


def test_the_ranks_agree_on_the_last_step_of_a_window_of_some_seconds(tmp_path: Path) -> None:
    window = Window(warmup_steps=2, min_steps=2, min_s=1.0)
    outcomes = run_trial(tmp_path, spec_of(window, strategy="fsdp", gpu_count=2))
    first, second = (outcome.one("window") for outcome in outcomes)
    assert first["measured_steps"] == second["measured_steps"] > 2
    assert first["end_ns"] - first["begin_ns"] >= 1e9
    assert all(len(outcome.steps()) == first["measured_steps"] + 2 for outcome in outcomes)


def test_a_trial_inherits_nothing_from_the_one_before(tmp_path: Path) -> None:
    before = only(run_trial(tmp_path, spec_of()))
    only(run_trial(tmp_path, spec_of(precision="bf16", attention="eager")))
    only(run_ranks(tmp_path, "tests.bench.test_trial:spoil_the_process", {}))
    after = only(run_trial(tmp_path, spec_of()))
    assert after.losses() == before.losses()
    assert after.one("ready")["pid"] != before.one("ready")["pid"]


def spoil_the_process(payload: dict[str, Any], context: RankContext) -> None:
    """An entry that changes what a process can change."""
    import torch

    torch.set_default_dtype(torch.float64)
    torch.manual_seed(123)
    torch.set_num_threads(2)
    torch.backends.cuda.enable_math_sdp(False)


def test_a_loss_that_is_not_a_number_is_reported_and_the_trial_ends(tmp_path: Path) -> None:
    outcome = only(run_trial(tmp_path, spec_of(learning_rate=1e38)))
    done = outcome.one("done")
    assert not math.isfinite(done["loss_last"])
    assert not all(math.isfinite(loss) for loss in outcome.losses()), "from which the verdict is made"


def test_a_precision_that_a_cpu_cannot_train_is_refused(tmp_path: Path) -> None:
    (outcome,) = run_trial(tmp_path, spec_of(precision="tf32"))
    error = outcome.one("error")
    assert error["type"] == "InputError"
    assert error["message"] == "precision: tf32 cannot be trained on a cpu device; one of fp32, fp16, bf16"
    assert outcome.exit_status == 1


def test_one_device_cannot_be_two_ranks(tmp_path: Path) -> None:
    outcomes = run_trial(tmp_path, spec_of(gpu_count=2))
    errors = [event for outcome in outcomes for event in outcome.events if event["kind"] == "error"]
    assert errors[0]["message"] == "gpu_count: strategy single on 2 devices; 1"


def test_the_preloaded_server_can_fork_and_leaves_little_to_import(tmp_path: Path) -> None:
    status = fork_server().wait_ready()
    assert status.threads == 1
    assert not status.cuda_initialized
    for strategy, ranks in (("single", 1), ("ddp", 2), ("fsdp", 2), ("tp", 2), ("fsdp_tp", 4), ("zero3", 2)):
        spec = spec_of(strategy=strategy, gpu_count=ranks, tensor_parallel=2 if "tp" in strategy else 1)
        payload = {"trial": spec.to_dict(), "root": "."}
        for outcome in run_ranks(tmp_path, "tests.bench.test_trial:imports_of", payload, ranks):
            assert len(outcome.one("imported")["modules"]) <= 5, outcome.one("imported")


def imports_of(payload: dict[str, Any], context: RankContext) -> None:
    """An entry that tells what a trial imported."""
    import sys

    from joulelaw.bench.training.rank import run_rank

    before = set(sys.modules)
    run_rank(payload, context)
    context.emit({"kind": "imported", "modules": sorted(set(sys.modules) - before)})
