"""The plan of a study: which trials, what each is expected to take, which are held out; saved before the first runs."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

from joulelaw import InputError
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.spec.configuration import Configuration, TrialSpec

SCHEMA_VERSION = 2
FILE_NAME = "plan.json"

Split = Literal["fit", "hold_out"]


@dataclass(frozen=True)
class Price:
    """What a trial is expected to take. Seconds and joules are None where the law cannot tell."""

    flop_per_step: float
    """All devices of the group, one optimizer step."""
    memory_bytes_per_device: float
    step_s: float | None = None
    trial_s: float | None = None
    """Set-up, warm-up and window."""
    energy_j: float | None = None
    """Of the window, all devices."""


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of the plan."""

    spec: TrialSpec
    split: Split
    baseline: bool
    """Not asked for: added as the single-device reference of its case."""
    price: Price

    @property
    def trial_id(self) -> str:
        return self.spec.trial_id

    @property
    def group(self) -> tuple[str, int]:
        """What it runs on: the device model and how many."""
        return self.spec.configuration.gpu_model, self.spec.configuration.gpu_count


@dataclass(frozen=True)
class SetAside:
    """A configuration that will not run, and why."""

    configuration: Configuration
    """Its gpu_model is "each" where no model of the inventory has as many devices on a node."""
    reason: str
    baseline: bool
    kind: str = ""
    """What many reasons have in common, as a list of them is summed up."""


@dataclass(frozen=True)
class HoldOut:
    """How the hold-out was drawn. `hash` is the SHA-256 of every trial's split; `by` is empty where none was drawn."""

    by: str
    fraction: float
    seed: int
    hash: str


@dataclass(frozen=True)
class Plan:
    """A study's trials in the order in which they are offered to the scheduler."""

    name: str
    seed: int
    trials: tuple[PlannedTrial, ...]
    set_aside: tuple[SetAside, ...]
    hold_out: HoldOut
    metering: dict[str, Any]
    """What decides which joules are read: meter, rate_hz, cpu_w_per_core, and the replayed file's name."""
    checkpoints: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every checkpoint's files, by its folder; that of texts is in the configurations."""

    @cached_property
    def plan_id(self) -> str:
        """16 hexadecimal digits: equal where trials, splits, metering and files are, whatever the forecast."""
        checkpoints = [self.checkpoints] if self.checkpoints else []
        return _digest([sorted(self._identities().items()), self.metering, *checkpoints])

    def check_same_study(self, saved: "Plan", folder: Place) -> None:
        """Before a study is resumed: raises InputError where `saved`, found in the folder, plans another one."""
        if saved.plan_id == self.plan_id:
            return
        ours, theirs = self._identities(), saved._identities()
        changes = {
            "trials added": len(ours.keys() - theirs.keys()),
            "trials gone": len(theirs.keys() - ours.keys()),
            "trials changed": sum(ours[trial] != theirs[trial] for trial in ours.keys() & theirs.keys()),
        }
        told = [f"{count} {what}" for what, count in changes.items() if count]
        keys = sorted(self.metering.keys() | saved.metering.keys())
        for key in keys:
            before, now = saved.metering.get(key), self.metering.get(key)
            told += [f"metering.{key} {before} -> {now}"] if before != now else []
        for folder_of in sorted(self.checkpoints.keys() & saved.checkpoints.keys()):
            same = self.checkpoints[folder_of] == saved.checkpoints[folder_of]
            told += [] if same else [f"the files of checkpoint {folder_of} changed"]
        raise InputError(
            f"the folder holds another study ({', '.join(told)})",
            where=str(folder),
            remedy="run the sweep that is saved there as sweep.yaml, or name another folder with --into",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: what plan.json holds."""
        return {
            "schema": SCHEMA_VERSION,
            "plan_id": self.plan_id,
            "name": self.name,
            "seed": self.seed,
            "hold_out": asdict(self.hold_out),
            "metering": self.metering,
            "checkpoints": self.checkpoints,
            "trials": [_to_dict(trial) for trial in self.trials],
            "set_aside": [asdict(each) for each in self.set_aside],
        }

    @classmethod
    def load(cls, folder: Place) -> Self:
        """Reads a folder's plan.json. Raises InputError where it is absent, of another schema, or changed by hand."""
        path = folder / FILE_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                "no plan", where=str(path), remedy="name a folder that `joulelaw run` has written"
            ) from None
        except ValueError:
            raise InputError("not JSON", where=str(path), remedy="restore the file, or start in a new folder") from None
        if not isinstance(content, dict) or content.get("schema") != SCHEMA_VERSION:
            raise InputError(f"not a plan of schema {SCHEMA_VERSION}", where=str(path), remedy="start in a new folder")
        try:
            plan = cls._from_content(content)
        except (KeyError, TypeError) as error:
            raise InputError(f"incomplete: {error}", where=str(path), remedy="restore it") from None
        if plan.plan_id != content["plan_id"]:
            raise InputError(
                "changed since it was drawn", where=str(path), remedy="restore it, or start in a new folder"
            )
        return plan

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        return cls(
            name=content["name"],
            seed=content["seed"],
            trials=tuple(_from_dict(each) for each in content["trials"]),
            set_aside=tuple(
                SetAside(**{**each, "configuration": Configuration.from_dict(each["configuration"])})
                for each in content["set_aside"]
            ),
            hold_out=HoldOut(**content["hold_out"]),
            metering=content["metering"],
            checkpoints=content.get("checkpoints", {}),
        )

    def _identities(self) -> dict[str, str]:
        return {each.trial_id: _digest([each.spec.to_dict(), each.split, each.baseline]) for each in self.trials}


def group_counts(trials: Sequence[PlannedTrial]) -> Counter[tuple[str, int]]:
    """How many trials run on each kind of group: (device model, devices)."""
    return Counter(trial.group for trial in trials)


def _to_dict(trial: PlannedTrial) -> dict[str, Any]:
    values = {
        "trial_id": trial.trial_id,
        "split": trial.split,
        "baseline": trial.baseline,
        "price": asdict(trial.price),
    }
    return values | trial.spec.to_dict()


def _from_dict(values: dict[str, Any]) -> PlannedTrial:
    spec = TrialSpec.from_dict(values)
    return PlannedTrial(spec, values["split"], values["baseline"], Price(**values["price"]))


def _digest(values: Any) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
