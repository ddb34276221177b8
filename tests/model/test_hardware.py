"""The device catalogue: no trap of the data sheets, no stand-ins, and one message for a bad file."""

import datetime
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest

from joulelaw import InputError
from joulelaw.model.hardware import Catalogue, DeviceSpec, UnknownDevice, read_devices, to_toml

CATALOGUE = Catalogue.load()
MEASURED = DeviceSpec(
    name='AMD "EPYC" 7763 (1 core)',
    peak_flop_per_s={"fp32": 71.3e9, "bf16": 12.25e9},
    bandwidth_bytes_per_s=11.7e9,
    memory_bytes=4_131_004_416,
    link="shared memory",
    link_bytes_per_s=4.2e9,
    source="measured here",
    date=datetime.date(2026, 11, 21),
    kind="cpu",
)
ENTRY = to_toml(MEASURED)

# fp16 and fp32 in TFLOP/s, GB/s, GB, W: read from data sheets, not from the catalogue.
DATA_SHEETS = {
    "Tesla P100-PCIE-16GB": (18.7, 9.3, 732, 16, 250),
    "Tesla V100-PCIE-32GB": (112, 14, 900, 32, 250),
    "Tesla V100-SXM2-16GB": (125, 15.7, 900, 16, 300),
    "Tesla T4": (65, 8.1, 320, 16, 70),
    "Quadro RTX 6000": (119.4, 14.9, 624, 24, 250),
    "NVIDIA A40": (149.7, 37.4, 696, 48, 300),
    "NVIDIA A100-PCIE-40GB": (312, 19.5, 1555, 40, 250),
    "NVIDIA A100 80GB PCIe": (312, 19.5, 1935, 80, 300),
    "NVIDIA A100-SXM4-40GB": (312, 19.5, 1555, 40, 400),
    "NVIDIA A100-SXM4-80GB": (312, 19.5, 2039, 80, 400),
    "NVIDIA L4": (121, 30.3, 300, 24, 72),
    "NVIDIA L40S": (362, 91.6, 864, 48, 350),
    "NVIDIA H100 PCIe": (756, 51, 2000, 80, 350),
    "NVIDIA H100 80GB HBM3": (989.4, 66.9, 3350, 80, 700),
    "NVIDIA H200": (989.4, 67, 4800, 141, 700),
    "AMD Instinct MI300X": (1307.4, 163.4, 5300, 192, 750),
}


@pytest.mark.parametrize("name", DATA_SHEETS)
def test_figures_are_the_data_sheets_in_si_units(name: str) -> None:
    spec = CATALOGUE.get(name)
    fp16, fp32, bandwidth, memory, limit = DATA_SHEETS[name]
    assert spec.peak("fp16") == pytest.approx(fp16 * 1e12)
    assert spec.peak("fp32") == pytest.approx(fp32 * 1e12)
    assert spec.bandwidth_bytes_per_s == pytest.approx(bandwidth * 1e9)
    assert (spec.memory_bytes, spec.power_limit_w) == (memory * 10**9, limit)


@pytest.mark.parametrize(
    ("name", "multiprocessors", "flop_per_clock", "boost_hz"),
    [
        ("NVIDIA GeForce RTX 2080 Ti", 68, 512, 1.545e9),  # GeForce: half rate with FP32 accumulation
        ("NVIDIA GeForce RTX 3090", 82, 512, 1.695e9),
        ("NVIDIA RTX A5000", 64, 1024, 1.695e9),
        ("NVIDIA A10", 72, 1024, 1.695e9),
        ("NVIDIA A30", 56, 2048, 1.440e9),
        ("NVIDIA GeForce RTX 4090", 128, 512, 2.520e9),
        ("Tesla V100S-PCIE-32GB", 80, 1024, 1.597e9),
        ("NVIDIA TITAN RTX", 72, 1024, 1.770e9),  # full rate, as the Quadros
        ("NVIDIA GeForce RTX 2080", 46, 512, 1.710e9),
        ("NVIDIA GeForce RTX 3080", 68, 512, 1.710e9),
        ("NVIDIA GeForce RTX 3090 Ti", 84, 512, 1.860e9),
        ("NVIDIA RTX A6000", 84, 1024, 1.800e9),
        ("NVIDIA RTX A4000", 48, 1024, 1.560e9),
        ("NVIDIA GeForce RTX 4080", 76, 512, 2.505e9),
        ("NVIDIA RTX 6000 Ada Generation", 142, 1024, 2.505e9),
        ("NVIDIA GeForce RTX 5090", 170, 512, 2.407e9),
        ("AMD Instinct MI210", 104, 1024, 1.700e9),
        ("NVIDIA A100-SXM4-40GB", 108, 2048, 1.410e9),
        ("NVIDIA H100 80GB HBM3", 132, 4096, 1.830e9),
    ],
)
def test_the_fp16_peak_is_units_times_clock(
    name: str, multiprocessors: int, flop_per_clock: int, boost_hz: float
) -> None:
    """Twice as much would be a sparse peak, or one that accumulates in FP16."""
    assert CATALOGUE.get(name).peak("fp16") == pytest.approx(multiprocessors * flop_per_clock * boost_hz, rel=0.01)


@pytest.mark.parametrize(
    ("name", "bus_bits", "bits_per_s"),
    [
        ("Tesla P40", 384, 7.2e9),
        ("NVIDIA GeForce GTX 1080 Ti", 352, 11e9),
        ("Tesla T4", 256, 10e9),
        ("NVIDIA GeForce RTX 2080 Ti", 352, 14e9),
        ("NVIDIA GeForce RTX 2080", 256, 14e9),
        ("NVIDIA TITAN RTX", 384, 14e9),
        ("NVIDIA GeForce RTX 3080", 320, 19e9),
        ("NVIDIA GeForce RTX 3090", 384, 19.5e9),
        ("NVIDIA GeForce RTX 3090 Ti", 384, 21e9),
        ("NVIDIA RTX A4000", 256, 14e9),
        ("NVIDIA RTX A5000", 384, 16e9),
        ("NVIDIA RTX A6000", 384, 16e9),
        ("NVIDIA A10", 384, 12.5e9),
        ("NVIDIA A40", 384, 14.5e9),
        ("NVIDIA GeForce RTX 4080", 256, 22.4e9),
        ("NVIDIA GeForce RTX 4090", 384, 21e9),
        ("NVIDIA RTX 6000 Ada Generation", 384, 20e9),
        ("NVIDIA L4", 192, 12.5e9),
        ("NVIDIA L20", 384, 18e9),
        ("NVIDIA L40S", 384, 18e9),
        ("NVIDIA GeForce RTX 5090", 512, 28e9),
        ("AMD Instinct MI210", 4096, 3.2e9),
    ],
)
def test_the_bandwidth_is_bus_width_times_rate(name: str, bus_bits: int, bits_per_s: float) -> None:
    assert CATALOGUE.get(name).bandwidth_bytes_per_s == pytest.approx(bus_bits * bits_per_s / 8, rel=0.01)


@pytest.mark.parametrize("name", CATALOGUE.names())
def test_precisions_keep_their_proportions(name: str) -> None:
    """A sparse figure beside a dense one breaks the factor 2 between precisions."""
    peaks = CATALOGUE.get(name).peak_flop_per_s
    if "tf32" in peaks:
        assert peaks["fp16"] / peaks["tf32"] == pytest.approx(2, rel=0.03)
        assert peaks["bf16"] == peaks["fp16"]
    if "bf16" in peaks:
        assert peaks["fp16"] / peaks["bf16"] in (1, 2), "the MI100 has half the rate in bf16"
    if "fp8" in peaks:
        assert peaks["fp8"] / peaks["fp16"] == pytest.approx(2, rel=0.03)
    assert peaks["fp32"] <= peaks.get("tf32", peaks["fp16"])


@pytest.mark.parametrize("name", ["Tesla P100-PCIE-16GB", "Tesla V100-SXM2-32GB", "Tesla T4", "Quadro RTX 6000"])
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_there_is_no_bf16_or_tf32_before_ampere(name: str, precision: str) -> None:
    with pytest.raises(InputError, match=f"{name} does not support '{precision}'.*fp32, fp16"):
        CATALOGUE.get(name).peak(precision)


def test_links_are_one_direction() -> None:
    """Data sheets print 600 and 900 GB/s both ways."""
    assert CATALOGUE.get("NVIDIA A100-SXM4-80GB").link_bytes_per_s == 300e9
    assert CATALOGUE.get("NVIDIA H200").link_bytes_per_s == 450e9
    assert CATALOGUE.get("Tesla T4").link_bytes_per_s == 16e9


def test_one_die_of_an_mi250x_is_a_device() -> None:
    spec = CATALOGUE.get("AMD Instinct MI250X")
    assert (spec.peak("bf16"), spec.memory_bytes) == (383e12 / 2, 64 * 10**9)


def test_every_entry_says_where_it_comes_from() -> None:
    assert len(CATALOGUE.names()) >= 50
    assert all(spec.source and spec.date and spec.power_limit_w for spec in CATALOGUE.devices.values())


# As nvidia-smi has printed them, under older drivers and newer ones.
PRINTED = {
    "Tesla V100-SXM2-32GB": ["Tesla V100-SXM2-32GB", "V100-SXM2-32GB"],
    "Tesla V100S-PCIE-32GB": ["Tesla V100S-PCIE-32GB"],
    "Tesla T4": ["Tesla T4", "NVIDIA T4"],
    "NVIDIA GeForce RTX 2080 Ti": ["GeForce RTX 2080 Ti", "NVIDIA GeForce RTX 2080 Ti"],
    "NVIDIA TITAN RTX": ["TITAN RTX", "NVIDIA TITAN RTX"],
    "Quadro RTX 8000": ["Quadro RTX 8000"],
    "NVIDIA RTX A6000": ["RTX A6000", "NVIDIA RTX A6000"],
    "NVIDIA RTX 6000 Ada Generation": ["NVIDIA RTX 6000 Ada Generation"],
    "NVIDIA A100-SXM4-40GB": ["A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB"],
    "NVIDIA A100 80GB PCIe": ["NVIDIA A100 80GB PCIe"],
    "NVIDIA H100 NVL": ["NVIDIA H100 NVL"],
    "NVIDIA H100 80GB HBM3": ["NVIDIA H100 80GB HBM3"],
}


@pytest.mark.parametrize(("name", "printed"), [(name, each) for name, all_of in PRINTED.items() for each in all_of])
def test_the_names_that_drivers_print_are_known_whatever_their_case(name: str, printed: str) -> None:
    for spelt in (printed, printed.lower(), printed.upper()):
        assert CATALOGUE.get(spelt).name == name


@pytest.mark.parametrize("name", CATALOGUE.names())
def test_every_alias_is_one_device_and_drivers_prefixes_do_not_matter(name: str) -> None:
    spec = CATALOGUE.get(name)
    for alias in spec.aliases:
        assert [each.name for each in CATALOGUE.devices.values() if alias in (each.name, *each.aliases)] == [name]
        assert CATALOGUE.get(alias) is spec
    for prefix, others in (("Tesla ", ("", "NVIDIA ")), ("NVIDIA GeForce ", ("GeForce ", "")), ("NVIDIA ", ("",))):
        if name.startswith(prefix):
            assert {CATALOGUE.get(other + name.removeprefix(prefix)).name for other in others} == {name}
            break


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (" Tesla T4 ", "leave out the spaces around it; close ones are Tesla T4"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "a MIG instance has a part of its GPU's peaks"),
        ("A100", "close ones are NVIDIA A100-PCIE-40GB"),
        ("RTX 6000", "close ones are"),  # Quadro or Ada: never one of them
        ("Tesla T4 x2", "Tesla T4"),
    ],
)
def test_a_name_that_is_nearly_one_is_refused_with_what_is_odd(name: str, told: str) -> None:
    with pytest.raises(UnknownDevice, match=re.escape(told)):
        CATALOGUE.get(name)


def test_names_of_one_file_that_differ_in_case_only_are_one_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(to_toml(replace(MEASURED, name="My Card")) + to_toml(replace(MEASURED, name="my card")))
    with pytest.raises(InputError, match="'my card' is given twice"):
        Catalogue.load([path])


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("NVIDIA A100-SXM-80GB ", "NVIDIA A100-SXM4-80GB"),
        ("A100", "NVIDIA A100-PCIE-40GB"),
        ("rtx 2080ti", "NVIDIA GeForce RTX 2080 Ti"),
        ("v100", "Tesla V100-SXM2-16GB"),
    ],
)
def test_an_unknown_name_raises_and_names_the_close_ones(name: str, close: str) -> None:
    """Not the nearest device's figures: a name is right or it is an error."""
    with pytest.raises(UnknownDevice) as caught:
        CATALOGUE.get(name)
    assert close in str(caught.value)
    assert "joulelaw devices --draft" in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), UnknownDevice)


def test_a_measured_device_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(to_toml(MEASURED) + "\n" + to_toml(CATALOGUE.get("Tesla T4")))
    again = Catalogue.load([path])
    assert again.get(MEASURED.name) == MEASURED
    assert again.get("Tesla T4") == CATALOGUE.get("Tesla T4")
    assert again.get("NVIDIA H200") == CATALOGUE.get("NVIDIA H200")


@pytest.mark.parametrize(
    ("name", "kind"), [("AMD EPYC (1 core)", "cpu"), ("x86 (12 cores)", "cpu"), ("My card", "cuda")]
)
def test_an_entry_of_before_kinds_were_written_is_told_by_its_name(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(to_toml(replace(MEASURED, name=name)).replace('kind = "cpu"\n', ""))
    assert "kind" not in path.read_text()
    assert Catalogue.load([path]).get(name).kind == kind
    assert {spec.kind for spec in CATALOGUE.devices.values()} == {"cuda"}


def test_an_entry_of_ones_own_replaces_the_shipped_one_whatever_name_it_uses(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(ENTRY.replace('AMD \\"EPYC\\" 7763 (1 core)', "NVIDIA T4"))
    mine = Catalogue.load([path])
    assert mine.get("NVIDIA T4").peak("fp32") == 71.3e9
    with pytest.raises(UnknownDevice):
        mine.get("Tesla T4")


def test_texts_that_may_be_left_out_may_be_empty_too_and_others_may_not(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    without = [line for line in ENTRY.splitlines() if not line.startswith(("architecture", "compute_cap", "note"))]
    path.write_text("\n".join([*without, 'architecture = ""', 'compute_capability = ""', 'note = ""']))
    (spec,) = read_devices(path)
    assert (spec.architecture, spec.compute_capability, spec.note) == ("", "", "")
    path.write_text(re.sub('source = ".*"', 'source = ""', ENTRY))
    with pytest.raises(InputError, match=r"\.source: '' is not a text"):
        read_devices(path)


BAD = {
    "unknown key": (
        ENTRY.replace("bandwidth_bytes", "bandwith_bytes"),
        r"device\[0\] .*did you mean 'bandwidth_bytes_per_s'",
    ),
    "missing key": (ENTRY.replace("link = ", "note = "), "missing key 'link'"),
    "text for a number": (
        ENTRY.replace("1.17e+10", '"fast"'),
        r"\.bandwidth_bytes_per_s: 'fast' is not a positive",
    ),
    "negative": (ENTRY.replace("1.17e+10", "-1"), r"\.bandwidth_bytes_per_s: -1 is not"),
    "infinite": (ENTRY.replace("7.13e+10", "inf"), r"\.peak_flop_per_s\.fp32: inf is not"),
    "truth for a number": (ENTRY.replace("1.17e+10", "true"), r"\.bandwidth_bytes_per_s: True is not"),
    "precision": (ENTRY.replace("bf16", "bf61"), r"\.peak_flop_per_s: unknown precision 'bf61'"),
    "date": (ENTRY.replace("2026-11-21", '"yesterday"'), r"\.date: 'yesterday' is not a date"),
    "aliases": (ENTRY + 'aliases = "one"\n', r"\.aliases: 'one' is not a list"),
    "twice": (ENTRY + ENTRY, "is given twice"),
    "alias of another": (ENTRY + 'aliases = ["Tesla T4"]\n', "'Tesla T4' is given twice"),
    "top level": ("[devices]\n", "unknown key 'devices'"),
    "empty": ("", "no list of devices"),
    "not TOML": ("[[device", "not a TOML file"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_message_with_file_and_key(case: str, tmp_path: Path) -> None:
    content, message = BAD[case]
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        Catalogue.load([path])
    assert str(caught.value).startswith(str(path))


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the device file"):
        Catalogue.load([tmp_path / "none.toml"])
