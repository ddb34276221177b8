"""devices: what the catalogue knows of each device model, and a draft of an entry for one that it lacks."""

import datetime
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from joulelaw import InputError
from joulelaw.bench.console import ExitCode, last_line, number, say, table, to_people

if TYPE_CHECKING:
    from joulelaw.model.hardware import Catalogue, DeviceSpec

_NUMERIC = ("fp32", "tf32", "fp16", "bf16", "GB/s", "GB", "W")
# `Catalogue.load` refuses an entry without a source: the figures of another device never stand in unseen.
_DRAFT = """\
# A draft: every figure is that of {like}. Replace them by those of {name},
# whose name must be as nvidia-smi prints it, and say in `source` where they come from; until then the file is refused.
# Peaks are dense (not sparse), in FLOP/s; link_bytes_per_s is one direction.

"""


def devices(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Only those with this in their name; all else.")] = "",
    draft: Annotated[
        str | None,
        typer.Option(
            "--draft",
            metavar="NEW",
            help="Write an entry for this device to --out, to be filled in: with"
            " the figures of the one that is called NAME.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.toml", help="Where a --draft goes.")] = None,
    devices_file: Annotated[
        Path | None, typer.Option("--devices", metavar="FILE.toml", help="Devices of your own, too.")
    ] = None,
) -> ExitCode:
    """List the device models that forecasts know.

    Peaks in TFLOP/s per precision, as data sheets have them. A study needs no entry for the devices that it runs on:
    what is not listed is measured.
    """
    from joulelaw.model.hardware import Catalogue

    catalogue = Catalogue.load([devices_file] if devices_file else ())
    if (draft is None) != (out is None):
        raise InputError("--draft and --out go together", remedy="--draft 'NVIDIA B300' --out my_gpus.toml")
    if draft is not None and out is not None:
        return _write_draft(catalogue, name, draft, out)
    found = [each for each in catalogue.devices.values() if _is_called(each, name)]
    if not found:
        catalogue.get(name)  # says which are close
    _show(found)
    last_line("devices", ExitCode.DONE, devices=[each.name for each in found])
    return ExitCode.DONE


def _is_called(spec: "DeviceSpec", name: str) -> bool:
    return any(name.casefold() in each.casefold() for each in (spec.name, *spec.aliases))


def _show(found: "list[DeviceSpec]") -> None:
    shown = table("", ["device", *_NUMERIC, "link, GB/s one way"], _NUMERIC)
    for each in found:
        peaks = [each.peak_flop_per_s.get(precision) for precision in _NUMERIC[:4]]
        shown.add_row(
            each.name,
            *(number(peak / 1e12 if peak else None) for peak in peaks),
            number(each.bandwidth_bytes_per_s / 1e9),
            number(each.memory_bytes / 1e9),
            number(each.power_limit_w),
            f"{each.link}, {number(each.link_bytes_per_s / 1e9)}",
        )
    to_people().print(shown)


def _write_draft(catalogue: "Catalogue", like: str, name: str, out: Path) -> ExitCode:
    from joulelaw.bench.files import check_target, write_text
    from joulelaw.model.hardware import to_toml

    if not like:
        raise InputError("of which device are the figures to begin with?", where="NAME", remedy="'NVIDIA B200', say")
    spec = catalogue.get(like)
    check_target(out)
    if out.exists():
        raise InputError("the file is there already", where=str(out), remedy="--out another file, or add to this one")
    today = datetime.date.today()
    entry = to_toml(replace(spec, name=name, aliases=(), source="", date=today, checked=False, note=""))
    write_text(out, _DRAFT.format(like=spec.name, name=name) + entry)
    say(f"{out}: fill in the figures of {name} and their source, then use it with --devices")
    last_line("devices", ExitCode.DONE, devices=[name], out=out)
    return ExitCode.DONE
