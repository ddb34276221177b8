"""`joulelaw devices`: what the catalogue has, and drafts of entries, which are of no use before they are filled in."""

import json
from pathlib import Path
from typing import Any

import pytest

from joulelaw.bench.cli import main
from joulelaw.model.hardware import Catalogue


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    code = main(["devices", *arguments])
    said = capsys.readouterr()
    return code, json.loads(said.out.splitlines()[-1]), said.out


def test_all_devices_of_the_catalogue_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, content, said = run(capsys)
    assert (code, tuple(content["devices"])) == (0, Catalogue.load().names())
    assert all(name in said for name in content["devices"])


def test_a_name_chooses_by_aliases_too(capsys: pytest.CaptureFixture[str]) -> None:
    spec = next(each for each in Catalogue.load().devices.values() if each.aliases)
    _, content, said = run(capsys, spec.aliases[0].upper())
    assert spec.name in content["devices"]
    assert len(content["devices"]) < len(Catalogue.load().names())
    assert f"{spec.bandwidth_bytes_per_s / 1e9:,.0f}" in said


def test_a_draft_is_refused_until_its_figures_have_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.toml"
    assert run(capsys, "NVIDIA B200", "--draft", "NVIDIA New", "--out", str(out))[0] == 0
    code, content, _ = run(capsys, "--devices", str(out))
    assert code == 2
    assert "(NVIDIA New).source: '' is not a text that says where the figures come from" in content["error"]
    out.write_text(out.read_text().replace('source = ""', 'source = "its data sheet"'))
    assert run(capsys, "NVIDIA New", "--devices", str(out))[1]["devices"] == ["NVIDIA New"]
    drafted, like = (Catalogue.load([out]).get(name) for name in ("NVIDIA New", "NVIDIA B200"))
    assert drafted.peak_flop_per_s == like.peak_flop_per_s
    assert drafted.bandwidth_bytes_per_s == like.bandwidth_bytes_per_s
    assert (drafted.aliases, drafted.checked) == ((), False)


def test_a_draft_replaces_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.toml"
    out.write_text("mine")
    code, content, _ = run(capsys, "NVIDIA B200", "--draft", "NVIDIA New", "--out", str(out))
    assert (code, out.read_text()) == (2, "mine")
    assert "mine.toml: the file is there already" in content["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NVIDIA B200", "--draft", "NVIDIA New"], "--draft and --out go together"),
        (["--draft", "NVIDIA New", "--out", "new.toml"], "NAME: of which device are the figures to begin with?"),
        (["Nothing 1", "--draft", "NVIDIA New", "--out", "new.toml"], "unknown device 'Nothing 1'"),
        (["b201"], "NVIDIA B200"),
    ],
)
def test_what_is_missing_is_said(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, content, _ = run(capsys, *arguments)
    assert code == 2
    assert message in content["error"]
