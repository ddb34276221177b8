"""A probed device's figures are those of this machine, and make a catalogue entry."""

import datetime
import time
from pathlib import Path

import numpy as np
import pytest

from joulelaw.bench.study.probed_device import device_spec
from joulelaw.model.hardware import Catalogue, to_toml
from tests.bench.trial_ranks import TINY, run_ranks

pytestmark = pytest.mark.xdist_group("ranks")

TODAY = datetime.date(2026, 11, 21)
PROBE = {
    "kind": "probe",
    "peak_flop_per_s": {"fp32": 9e10, "bf16": 2e11},
    "bandwidth_bytes_per_s": 2e10,
    "link": "gloo",
    "link_bytes_per_s": 1e9,
}


def numpy_flop_per_s() -> float:
    """The best of a few products in NumPy's own BLAS, on its own number of threads."""
    a = np.ones((1024, 1024), dtype=np.float32)
    durations = []
    for _ in range(8):
        began = time.perf_counter()
        a @ a
        durations.append(time.perf_counter() - began)
    return float(2 * 1024**3 / min(durations))


def numpy_copy_bytes_per_s() -> float:
    source = np.ones(2**27, dtype=np.uint8)
    target = np.empty_like(source)
    durations = []
    for _ in range(4):
        began = time.perf_counter()
        np.copyto(target, source)
        durations.append(time.perf_counter() - began)
    return float(2 * source.size / min(durations))


def test_the_probe_agrees_with_numpy_within_a_loose_factor(tmp_path: Path) -> None:
    first, second = run_ranks(tmp_path, "joulelaw.bench.study.probe:run_probe", {"seconds": 0.1}, world_size=2)
    assert (first.exit_status, second.exit_status) == (0, 0)
    probe = first.one("probe")
    assert 0.1 < probe["peak_flop_per_s"]["fp32"] / numpy_flop_per_s() < 10
    assert 0.1 < probe["bandwidth_bytes_per_s"] / numpy_copy_bytes_per_s() < 10
    assert 1e6 < probe["link_bytes_per_s"] < 10 * probe["bandwidth_bytes_per_s"]
    assert probe["peak_flop_per_s"].keys() == {"fp32", "fp16", "bf16"}
    assert all(peak > 0 for peak in probe["peak_flop_per_s"].values())
    assert not [event for event in second.events if event["kind"] == "probe"]


def test_one_device_has_no_link(tmp_path: Path) -> None:
    (outcome,) = run_ranks(tmp_path, "joulelaw.bench.study.probe:run_probe", {"seconds": 0.01})
    probe = outcome.one("probe")
    assert probe["link_bytes_per_s"] is None
    spec = device_spec(probe, "Lone device", 2**30, None, TODAY, "cpu")
    assert (spec.link, spec.link_bytes_per_s) == ("none: one device", probe["bandwidth_bytes_per_s"])


def test_a_probe_becomes_a_catalogue_entry(tmp_path: Path) -> None:
    spec = device_spec(PROBE, TINY.gpu_model, 2**30, None, TODAY, "cpu")
    (tmp_path / "devices.toml").write_text(to_toml(spec))
    found = Catalogue.load([tmp_path / "devices.toml"]).get(TINY.gpu_model)
    assert found == spec
    assert found.peak("bf16") == 2e11
    assert (found.bandwidth_bytes_per_s, found.link_bytes_per_s) == (2e10, 1e9)
    assert found.source == "measured here, 2026-11-21"
