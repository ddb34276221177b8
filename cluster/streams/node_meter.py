"""One node's sampler as the driver sees it: over a link that may be slow, cut, or lose answers. Nobody waits for it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import pyarrow as pa
from ray.exceptions import ActorDiedError, ActorUnschedulableError

from joulelaw.cluster.streams.clock import ClockComparison
from joulelaw.cluster.streams.metering import ClockOffset, Drained, MeterInfo, from_bytes

# A question so old is asked again: its answer was lost with a link. Ray tells of most such losses itself.
PATIENCE_S = 10.0
# After an error, so that one that comes at once is not answered by another question at once.
AGAIN_S = 0.5
# An answer that comes within this time is worth waiting for; see NodeMeters.
PROMPT_S = 0.02


class Sampler(Protocol):
    """What a SamplerHost is asked, each answer in its own time."""

    def drain(self, life: str, number: int) -> "Future[Drained]": ...
    def clock_ns(self) -> "Future[int]": ...
    def watch(self, number: int, pids: dict[str, list[int]]) -> "Future[tuple[str, int]]": ...


class SamplerActor:
    """A SamplerHost that is an actor of Ray."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def drain(self, life: str, number: int) -> "Future[Drained]":
        return self._actor.drain.remote(life, number).future()  # type: ignore[no-any-return]

    def clock_ns(self) -> "Future[int]":
        return self._actor.clock_ns.remote().future()  # type: ignore[no-any-return]

    def watch(self, number: int, pids: dict[str, list[int]]) -> "Future[tuple[str, int]]":
        return self._actor.watch.remote(number, pids).future()  # type: ignore[no-any-return]


class _Question:
    """`token` is what was current when it was asked."""

    def __init__(self, token: object, answer: "Future[Any]", clock: Callable[[], float]) -> None:
        self.token, self.answer = token, answer
        self.asked_s, self.heard_s = clock(), float("inf")
        answer.add_done_callback(lambda _: self._note(clock()))

    def _note(self, now_s: float) -> None:
        self.heard_s = now_s


class NodeMeter:
    """Questions go out with `ask`, at most one of a kind at a time; `listen` takes the answers that have come.

    `is_dead` is Ray's word: there is no sampler now, and will be none while its node is gone.
    """

    def __init__(
        self, sampler: Sampler, life: str, info: MeterInfo, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.info = info
        self.is_dead = False
        self.is_over = False
        self.drained_s = float("-inf")
        """What was read by this time, by the clock given, is here."""
        self._sampler, self._clock = sampler, clock
        self._comparison = ClockComparison(sampler.clock_ns)
        self._life, self._past = life, set[str]()
        self._number = 0
        self._dropped = [0, 0]  # by lives that are over, and by this one
        self._readings: list[pa.RecordBatch] = []
        self._pids: dict[str, list[int]] = {}
        self._changed: dict[str, int] = {}  # which version of the pids brought a device's
        self._version = self._known = 0
        self._questions: dict[str, _Question] = {}
        self._not_before_s = float("-inf")
        self._is_prompt = True

    @property
    def losses(self) -> int:
        """How many lives of the sampler are over."""
        return len(self._past) + (self.is_dead or self.is_over)

    @property
    def offset(self) -> ClockOffset | None:
        """Of the node's clock to the driver's; None before it is known."""
        return self._comparison.offset

    @property
    def dropped(self) -> int:
        """Readings that were dropped as nobody fetched them for too long: gaps."""
        return sum(self._dropped)

    def ask(self) -> None:
        """Asks what there is to ask."""
        if self.is_over or self._clock() < self._not_before_s:
            return
        current = (self._life, self._number)
        self._send("drain", current, lambda: self._sampler.drain(*current))
        self._tell_pids()
        self._comparison.advance()

    def listen(self) -> None:
        """Takes the answers that have come."""
        self._take("watch", self._note_known)
        self._take("drain", self._accept)

    def readings(self) -> list[pa.RecordBatch]:
        """What has come since the last call, in order, each reading once."""
        found, self._readings = self._readings, []
        return found

    def prompt(self) -> list["Future[Any]"]:
        """The answers that are worth a moment's wait, as the last one came at once."""
        return [question.answer for question in self._questions.values()] if self._is_prompt else []

    def watch(self, pids: Mapping[str, Sequence[int]]) -> None:
        """From now on these processes are at work on devices. Told now, and again whenever it may not be known."""
        changed = {uuid: list(its) for uuid, its in pids.items() if self._pids.get(uuid) != list(its)}
        if changed:
            self._pids |= changed
            self._version += 1
            self._changed |= dict.fromkeys(changed, self._version)
        if not self.is_over and self._clock() >= self._not_before_s:
            self._tell_pids()

    def knows(self, device_uuids: Iterable[str]) -> bool:
        """Whether the sampler has said that it knows who works on these devices."""
        return self._known >= max((self._changed.get(uuid, 0) for uuid in device_uuids), default=0)

    def close(self) -> None:
        """Its node is gone, and its sampler with it."""
        self.is_over = True
        self._questions.clear()

    def _tell_pids(self) -> None:
        if self._known < self._version:
            self._send("watch", None, lambda: self._sampler.watch(self._version, dict(self._pids)))

    def _send(self, kind: str, token: object, send: Callable[[], "Future[Any]"]) -> None:
        before = self._questions.get(kind)
        if before is None or self._clock() - before.asked_s > PATIENCE_S:
            self._questions[kind] = _Question(token, send(), self._clock)

    def _take(self, kind: str, note: Callable[[_Question, Any], None]) -> None:
        question = self._questions.get(kind)
        if question is not None:
            self._is_prompt = question.heard_s - question.asked_s <= PROMPT_S
        if question is None or not question.answer.done():
            return
        del self._questions[kind]
        try:
            answer = question.answer.result()
        except Exception as error:  # a cut link, a worker that just died: whatever Ray makes of it
            # Once dead, until a new life answers: what else fails meanwhile makes no loss undone.
            self.is_dead = self.is_dead or isinstance(error, ActorDiedError | ActorUnschedulableError)
            self._not_before_s = self._clock() + AGAIN_S
        else:
            note(question, answer)

    def _note_known(self, question: _Question, answer: tuple[str, int]) -> None:
        life, version = answer
        if self._note_life(life):
            self._known = version

    def _accept(self, question: _Question, drained: Drained) -> None:
        """Once for each question: the answer to an older one tells what has been told, or what will be told again."""
        current = (self._life, self._number)
        if not self._note_life(drained.life) or question.token != current:
            return
        self._number, self.drained_s = drained.number, question.asked_s
        self._dropped[1] = drained.dropped
        if len(readings := from_bytes(drained.readings)):
            self._readings.append(readings)

    def _note_life(self, life: str) -> bool:
        """Whether this is the sampler's life now. A new one has none of the last one's readings, and knows no ranks."""
        if life in self._past:
            return False
        if life != self._life:
            self._past.add(self._life)
            self._dropped = [sum(self._dropped), 0]
            self._number = self._known = 0
        self._life, self.is_dead = life, False
        return True
