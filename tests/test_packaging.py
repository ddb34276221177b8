"""The archives: whole, licensed, described, and the same names from a wheel as from a checkout."""

import email
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import joulelaw

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("model/", "cluster/", "bench/")
NOT_SHIPPED = ("cluster/deploy/",)  # files for clusters: of the repository, and of the source archive
BUILD = "import sys; from setuptools import build_meta as b; b.build_sdist(sys.argv[1])"
BUILD_WHEEL = BUILD.replace("sdist", "wheel")
# One worker builds them, once.
pytestmark = pytest.mark.xdist_group("packaging")


def ours() -> list[str]:
    """The files of a checkout as it is now, what git ignores left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (ROOT / name).is_file() and not name.startswith(("results/", "tests/"))]


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive of a copy of the checkout, and the wheel made from that archive alone."""
    home = tmp_path_factory.mktemp("archives")
    for name in ours():
        (home / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, home / "copy" / name)
    built(BUILD, home / "copy", home)
    (source,) = home.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(home, filter="data")
    built(BUILD_WHEEL, home / source.name.removesuffix(".tar.gz"), home)
    (wheel,) = home.glob("*.whl")
    return source, wheel


def built(script: str, folder: Path, into: Path) -> None:
    done = subprocess.run([sys.executable, "-c", script, str(into)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def names(archive: Path) -> set[str]:
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as opened:
        return {name.partition("/")[2] for name in opened.getnames()}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [each for each in opened.namelist() if each.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(opened.read(name))


def test_the_wheel_has_every_module_and_what_they_read(archives: tuple[Path, Path]) -> None:
    _, wheel = archives
    wanted = [name for name in ours() if name.startswith(PACKAGES) and not name.startswith(NOT_SHIPPED)]
    assert len(wanted) > 300
    assert [name for name in wanted if f"joulelaw/{name}" not in names(wheel)] == []
    assert {"joulelaw.py", "joulelaw/model/default_law.json", "joulelaw/model/law.schema.json"} <= names(wheel)


def test_the_wheel_has_nothing_else(archives: tuple[Path, Path]) -> None:
    """No module of another time, no test: what would be found beside a user's own."""
    _, wheel = archives
    tops = {name.partition("/")[0] for name in names(wheel)}
    assert tops == {"joulelaw", "joulelaw.py", f"joulelaw-{joulelaw.__version__}.dist-info"}
    gone = [name for name in names(wheel) if name.startswith("joulelaw/") and not (ROOT / name[9:]).is_file()]
    assert gone == []


def test_both_archives_have_the_licence_and_the_source_what_it_takes_to_cite_it(archives: tuple[Path, Path]) -> None:
    source, wheel = archives
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    with tarfile.open(source) as opened:
        member = opened.extractfile(f"joulelaw-{joulelaw.__version__}/LICENSE")
        assert member is not None
        assert member.read().decode() == licence
    inside = zipfile.ZipFile(wheel)
    (name,) = [each for each in inside.namelist() if each.endswith("licenses/LICENSE")]
    assert inside.read(name).decode() == licence
    assert {"CITATION.cff", "CHANGELOG.md", "README.md", "constraints.txt", "docs/dataset.md"} <= names(source)
    assert not [name for name in names(source) if name.startswith(("tests/", "results/", ".git/"))]


def test_the_metadata_say_what_it_is_and_needs(archives: tuple[Path, Path]) -> None:
    found = metadata(archives[1])
    assert found["Version"] == joulelaw.__version__
    assert found["License-Expression"] == "Apache-2.0"
    assert found["Requires-Python"] == ">=3.11"
    assert found["Description-Content-Type"] == "text/markdown"
    assert found.get_payload(decode=True) == (ROOT / "README.md").read_bytes()
    asked = [Requirement(each) for each in found.get_all("Requires-Dist", [])]
    small = {each.name for each in asked if each.marker is None}
    whole = {each.name for each in asked if each.marker and each.marker.evaluate({"extra": "bench"})}
    assert {"numpy", "scipy", "pandas", "pyarrow", "typer"} <= small
    assert {"torch", "ray", "transformers", "deepspeed"} <= whole - small


def test_an_install_from_the_wheel_is_the_same_program(archives: tuple[Path, Path], tmp_path: Path) -> None:
    """Beside a user's own model.py and bench.py, which must stay theirs; with the law that ships."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(site), str(archives[1])], check=True, capture_output=True, text=True)
    (tmp_path / "model.py").write_text("MINE = True\n")
    script = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import model; assert model.MINE;"
        "import joulelaw.model.hardware as h, joulelaw.bench.cli as c;"
        "print(h.__file__); print(c.__file__); print(len(h.Catalogue.load().names()));"
        "codes = c.main(['--version']), c.main(['export', 'default', '--format', 'csv', '--out', 'law.csv']);"
        "assert codes == (0, 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    hardware, cli, devices, version = done.stdout.splitlines()[:4]
    assert Path(hardware).is_relative_to(site)
    assert Path(cli).is_relative_to(site)
    assert int(devices) >= 25, "the catalogue travels with the wheel"
    assert version == joulelaw.__version__
    assert (tmp_path / "law.csv").read_text().count("\n") > 20
    (script_file,) = (site / "bin").glob("joulelaw")
    assert "joulelaw.bench.cli" in script_file.read_text()


def test_the_citation_is_of_this_version_and_licence() -> None:
    """Its form was held to the schema of the Citation File Format 1.2.0 by cffconvert."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["cff-version"], citation["license"]) == ("1.2.0", "Apache-2.0")
    assert citation["version"] == joulelaw.__version__
    assert {each.get("doi") for each in citation["references"]} == {None, "10.3233/FAIA250900"}


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert joulelaw.__version__ in sections[0]
    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) <= {
        *("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    }


def test_every_pin_of_a_small_install_serves_all_three_pythons() -> None:
    """By what each release says of itself; `make clean-install` installs them on each Python there is."""
    waiting = ["joulelaw"]
    seen: set[str] = set()
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    while waiting:
        name = waiting.pop()
        found = importlib.metadata.distribution(name)
        if name != "joulelaw":
            assert re.sub(r"[-_.]+", "-", name).lower() in pinned, f"{name} has no pin"
            python = importlib.metadata.metadata(name).get("Requires-Python")
            for version in ("3.11.0", "3.12.0", "3.13.0"):
                assert python is None or Requirement(f"x{python}").specifier.contains(version), (name, python)
        for line in found.requires or []:
            each = Requirement(line)
            if (each.marker is None or each.marker.evaluate({"extra": ""})) and each.name not in seen:
                seen.add(each.name)
                waiting.append(each.name)
    assert len(seen) > 15
