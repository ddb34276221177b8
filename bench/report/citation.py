"""How to cite a report, the commands that make it again, and the hashes that say whether data and law are the same."""

import shlex

from joulelaw import __version__
from joulelaw.bench.dataset.measurements import data_hash
from joulelaw.bench.report.study import Study


def citation(study: Study) -> str:
    """A BibTeX entry: the software by name and version, the results by their hashes."""
    notes = [f"study {study.name}", f"data SHA-256 {data_hash(study.valid)}"]
    if study.law is not None:
        notes.append(f"law {study.law.law.name} SHA-256 {study.law_checksum}")
    return "\n".join(
        (
            "@software{joulelaw,",
            "  title   = {JouleLaw: what it costs, in joules and seconds, to fine-tune a Transformer},",
            f"  version = {{{__version__}}},",
            f"  note    = {{{f';{chr(10)}             '.join(notes)}}},",
            "}",
        )
    )


def commands(study: Study, shipped: bool) -> str:
    """The commands that make this study and this report again; `shipped`: the law is the one called default."""
    folder = shlex.quote(study.folder.resolve().name)
    lines = [f"joulelaw import {shlex.quote(str(each['file']))} --into {folder}" for each in study.imported]
    lines = lines or [f"joulelaw run sweep.yaml --into {folder}"]
    options = ""
    if study.law is not None and not shipped:
        lines.append(f"joulelaw fit {folder} --law {study.law.law.name.removesuffix('_post_run')} --out law.json")
    if study.validation is not None:
        rule = study.validation["hold_out"]
        lines.append(f"joulelaw validate {folder} --hold-out {rule} --out validation.json")
        options = " --validation validation.json"
    if study.law is not None:
        options = f" --law {'default' if shipped else 'law.json'}{options}"
    return "\n".join((*lines, f"joulelaw report {folder}{options}"))


def fingerprints(study: Study) -> list[tuple[str, str]]:
    """Hashes that tell whether another's data, law and hold-out are the same, and what program made them."""
    facts = [("program", f"joulelaw {__version__}"), ("valid measurements, SHA-256", data_hash(study.valid))]
    if study.law is not None:
        source = study.law.provenance
        facts += [
            ("measurements fitted, SHA-256", source.data_hash),
            ("law file, checksum", study.law_checksum),
            ("law made by", source.created_by),
        ]
    commit = (study.environment.get("git") or {}).get("commit", "")
    facts += [(f"imported {each['file']}, SHA-256", str(each["sha256"])) for each in study.imported]
    others = (
        ("hold-out, as drawn", str(study.plan.get("hold_out", {}).get("hash", ""))),
        ("plan", str(study.plan.get("plan_id", ""))),
        (
            "commit that measured",
            f"{commit}{' with changes' if study.environment.get('git', {}).get('changed') else ''}" if commit else "",
        ),
    )
    return [*facts, *(pair for pair in others if pair[1])]
