"""The right to write to a folder of an object store, which has no locks: an object that is put again and again.

    <folder>/lease/<time>-<random>.json     {"host": ..., "process": ..., "since": ..., "held": true}

Whoever wants the folder puts an object of its own there, then lists them all. As a listing shows every put that ended
before it (S3 and Google's store promise that), of two that come at once at least one sees the other: one that is held
is respected, and of two that only ask the later name gives way. So no object is ever written by two.

A holder puts its object again every RENEW_EVERY_S; the age of each is told by the store's own clock, so that the clocks
of machines do not matter. One that is older than EXPIRES_S is a dead writer's: whoever asks takes the folder and
removes it.

What stays open is a holder that stood still for EXPIRES_S (its machine asleep, its network gone) and goes on: it stops
putting HOLDS_S after its last renewal, and asks anew before it goes on, so that it stops where another has the folder.
Only a put that was on its way at that moment, and took longer than EXPIRES_S - HOLDS_S, could still come late.
"""

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Self

from joulelaw.bench.dataset.storage import ObjectPath
from joulelaw.bench.files import StorageError

RENEW_EVERY_S = 3.0
HOLDS_S = 10.0
EXPIRES_S = 15.0
# Where the network is gone, puts are tried again for so long before a study stops.
PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.5


class LeaseHeldError(Exception):
    """Another has the folder; the text says who, and since when."""


class Lease:
    """Renewed by a thread from `take` to `close`. Guards every put to the folder's store; see ObjectStore."""

    def __init__(self, folder: ObjectPath) -> None:
        now = datetime.now(UTC)
        self._folder = folder
        self._object = folder / "lease" / f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.json"
        self._told = {"host": socket.gethostname(), "process": os.getpid(), "since": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
        self._renewed_s = _now_s()
        self._lost = ""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="joulelaw-lease", daemon=True)

    @classmethod
    def take(cls, folder: ObjectPath) -> Self:
        """The lease of a folder that nobody holds, or whose holder is dead: that takes up to EXPIRES_S to find out.

        Raises:
            LeaseHeldError: another has it.
            StorageError: the store takes no objects, or shows none.
        """
        lease = cls(folder)
        try:
            lease._ask()
        except BaseException:
            lease._object.unlink(missing_ok=True)
            raise
        folder.store.guard, folder.store.patience_s = lease.check, PATIENCE_S
        lease._thread.start()
        return lease

    def check(self) -> None:
        """Raises StorageError where the lease is lost; waits for its renewal where that is late."""
        until_s = time.monotonic() + self._folder.store.patience_s
        while not self._lost and _now_s() - self._renewed_s > HOLDS_S:
            if time.monotonic() > until_s:
                remedy = "see to the network, then run the same command again: it goes on where it stopped"
                raise StorageError("cannot write: the store does not answer", where=str(self._folder), remedy=remedy)
            time.sleep(0.1)
        if self._lost:
            remedy = "let that one go on, or stop it and run the same command again"
            raise StorageError(f"this run no longer has it: {self._lost}", where=str(self._folder), remedy=remedy)

    def close(self) -> None:
        """Let another have the folder, when everything that was being put is there."""
        if self._closed.is_set():
            return
        self._folder.store.settle()
        self._closed.set()
        self._thread.join()
        self._object.unlink(missing_ok=True)
        self._folder.store.guard, self._folder.store.patience_s = lambda: None, 0.0

    def _ask(self) -> None:
        """Until nobody else has the folder, or LeaseHeldError."""
        last: dict[str, int] = {}
        while True:
            asked_s = _now_s()
            self._put(held=False)
            others = self._others()
            for name, put_ns in others.items():
                told = _read(self._folder / "lease" / name)
                first = self._object.name < name
                if not told or (first and not told["held"]):
                    continue  # gone, or about to give way
                if not told["held"] or last.get(name, put_ns) != put_ns:
                    raise LeaseHeldError(_words(told))  # it lives: it was put again since we came
            if not others:
                break
            last |= {name: put_ns for name, put_ns in others.items() if name not in last}
            time.sleep(_LOOK_EVERY_S)
        self._put(held=True)
        self._renewed_s = asked_s
        mine_and_alive = {self._object.name, *self._others()}
        for name, _ in self._folder.store.files(f"{self._folder.key}/lease"):
            if name not in mine_and_alive:
                (self._folder / "lease" / name).unlink(missing_ok=True)

    def _others(self) -> dict[str, int]:
        """Name and time of the last put of every other lease that has not expired."""
        listed = dict(self._folder.store.files(f"{self._folder.key}/lease"))
        now_ns = listed.pop(self._object.name, None)
        if now_ns is None:
            raise LeaseHeldError("which removed our lease")
        return {name: put_ns for name, put_ns in listed.items() if now_ns - put_ns <= EXPIRES_S * 1e9}

    def _renew(self) -> None:
        while not self._closed.wait(RENEW_EVERY_S):
            try:
                began_s = _now_s()
                if began_s - self._renewed_s > HOLDS_S:
                    self._ask()  # another may have come meanwhile
                elif self._object.name not in dict(self._folder.store.files(f"{self._folder.key}/lease")):
                    raise LeaseHeldError("which removed our lease")
                else:
                    self._put(held=True)
                self._renewed_s = began_s
            except LeaseHeldError as held:
                self._lost = f"another run writes to it ({held})"
                with suppress(StorageError):
                    self._object.unlink(missing_ok=True)
                return
            except StorageError:
                continue  # `check` tells, where it lasts

    def _put(self, *, held: bool) -> None:
        content = json.dumps(self._told | {"held": held}).encode()
        self._folder.store.put(self._object.key, content, guarded=False)


def holder_of_lease(folder: ObjectPath) -> str:
    """Who holds the folder now, in words; "" where nobody does. A dead holder is named until its lease expires."""
    listed = folder.store.files(f"{folder.key}/lease")
    alive = [name for name, put_ns in listed if time.time_ns() - put_ns <= EXPIRES_S * 1e9]
    held = [told for name in alive if (told := _read(folder / "lease" / name)) and told["held"]]
    return _words(held[0]) if held else ""


def _read(path: ObjectPath) -> dict[str, Any]:
    """What a lease says; {} where it is gone."""
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        told = {}
    return {"held": True, **told} if isinstance(told, dict) else {"held": True}


def _words(told: dict[str, Any]) -> str:
    who = f"process {told.get('process', '?')} on {told.get('host', '?')} since {told.get('since', '?')}"
    return f"{who}; if it is dead, its right ends {EXPIRES_S:g} s after its last sign of life"


def _now_s() -> float:
    """Also while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
