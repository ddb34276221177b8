"""calibration.json in a calibration's folder: what it is of, written before its first trial, and what was chosen."""

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Self

from joulelaw import InputError
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.files import write_text

if TYPE_CHECKING:
    from joulelaw.model.laws.base import FittedLaw

FILE_NAME = "calibration.json"


@dataclass(frozen=True)
class Record:
    """`law` is what the law was named by, `law_sha256` what tells it from others; `boundary` is what the joules are of;
    trials are named by id."""

    law: str
    law_sha256: str
    gpu_model: str
    boundary: str
    validation: tuple[str, ...]
    chosen: tuple[str, ...] = ()

    def save(self, folder: Place) -> None:
        write_text(folder / FILE_NAME, json.dumps({"schema": 1, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def of(cls, folder: Place) -> Self | None:
        """The folder's record, None where there is none. InputError where it cannot be read."""
        path = folder / FILE_NAME
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            del content["schema"]
            return cls(**{**content, "validation": tuple(content["validation"]), "chosen": tuple(content["chosen"])})
        except (ValueError, KeyError, TypeError) as error:
            what = f"not a calibration's record ({type(error).__name__}: {error})"
            raise InputError(what, where=str(path), remedy="restore it, or start in a new folder") from None

    def check_same(self, asked: "Record", folder: Place) -> None:
        """Before a calibration goes on: raises InputError where `asked` is another one."""
        changes = [
            f"of {name} {before!r}, not {now!r}"
            for name in ("gpu_model", "boundary")
            if (before := getattr(self, name)) != (now := getattr(asked, name))
        ]
        if self.law_sha256 != asked.law_sha256:
            changes.append(f"of another law, {self.law}")
        if changes:
            what = f"the folder holds another calibration ({', '.join(changes)})"
            raise InputError(what, where=str(folder), remedy="name another folder with --into")

    @property
    def trials(self) -> frozenset[str]:
        """Those that run, as far as that is decided: of the plan's others no more may be needed."""
        return frozenset({*self.validation, *self.chosen})

    def with_chosen(self, trial_ids: Iterable[str], ended: Collection[str]) -> Self:
        """With these chosen beside those that have `ended`: what was chosen and never ran may not be chosen again."""
        kept = [trial_id for trial_id in self.chosen if trial_id in ended]
        return replace(self, chosen=tuple(dict.fromkeys([*kept, *trial_ids])))


def digest(law: "FittedLaw") -> str:
    """SHA-256 of what tells a law from others: its parameters, and the data that it comes from."""
    content = json.dumps([law.law.name, law.parameters, law.provenance.data_hash], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
