"""What a user may say of a metered training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from joulelaw import InputError
from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.dataset.storage import Place, place
from joulelaw.bench.files import check_folder
from joulelaw.cluster.power.meter import MeterChoice, MeterKind, MeterOptions

RATE_HZ, ESTIMATE_HZ = 20.0, 5.0


@dataclass(frozen=True)
class LiveOptions:
    """`law`: a file, or `default`; `into`: the dataset folder (or URI) that gets the row; each may be left out.

    `devices` are TOML files of devices that the catalogue lacks. `meter`, `cpu_w_per_core`, `replay_path` and
    `rate_hz` are those of a sweep's metering (None: 20 readings a second, 5 where joules are estimates). The measured
    window begins after `warmup_steps` optimizer steps, on GPUs once steps are steady, and is at most `window_s` long.

    Raises:
        InputError: a meter or rate that cannot be, a negative count, or a folder that takes no row.
    """

    law: str | None = None
    into: str | Path | None = None
    devices: Sequence[str | Path] = ()
    meter: MeterChoice = "auto"
    cpu_w_per_core: float | None = None
    replay_path: str | None = None
    rate_hz: float | None = None
    warmup_steps: int = 10
    window_s: float = 600.0

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise InputError(f"{self.warmup_steps} steps", where="warmup_steps", remedy="choose 0 or more")
        if not self.window_s > 0:
            raise InputError(f"{self.window_s} s", where="window_s", remedy="choose seconds above 0")
        _ = self.metering

    @property
    def metering(self) -> MeterOptions:
        return MeterOptions(self.rate_hz or RATE_HZ, self.meter, self.cpu_w_per_core, self.replay_path)

    def rate_of(self, kind: MeterKind) -> float:
        """Readings a second. An estimate knows the time at each of them: it needs fewer."""
        return self.rate_hz or (ESTIMATE_HZ if kind == "estimated" else RATE_HZ)

    @property
    def device_files(self) -> tuple[Path, ...]:
        return tuple(map(Path, self.devices))

    @property
    def folder(self) -> Place | None:
        """Where the row goes."""
        return self.into if isinstance(self.into, Path | None) else place(self.into)

    def check_folder(self) -> None:
        """Before the training, not after it: StorageError where nothing can be written, InputError in a study."""
        if self.folder is None:
            return
        check_folder(self.folder)
        if Dataset.exists(self.folder):
            remedy = "name a folder of its own; `joulelaw fit` takes several"
            raise InputError("a study of `joulelaw run` is in it", where=str(self.folder), remedy=remedy)
