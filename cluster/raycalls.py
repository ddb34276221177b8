"""Answers of Ray's actors, with Ray's errors put into ours."""

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from joulelaw import InputError
from joulelaw.cluster.failures import ClusterError, NodeLostError


def fetch(references: Sequence[Any], timeout_s: float, what: str) -> list[Any]:
    """The values of `references`. What an actor raised of ours is raised here as it was; `what` names the call."""
    try:
        values: list[Any] = ray.get(list(references), timeout=timeout_s)
    except GetTimeoutError:
        raise ClusterError(f"{what}: no answer within {timeout_s:g} s") from None
    except RayError as error:
        raise _ours(error, what) from None
    return values


class Call:
    """A call to an actor that is under way. Looking whether it has an answer asks nobody, and never waits.

    `on_done` is called, in a thread of Ray's, as soon as there is one.
    """

    def __init__(self, reference: Any, what: str, on_done: Callable[[], None] | None = None) -> None:
        self._what = what
        self._future = reference.future()
        if on_done is not None:
            self._future.add_done_callback(lambda _: on_done())

    @property
    def done(self) -> bool:
        return bool(self._future.done())

    def raw(self) -> Any:
        """The answer; Ray's own errors as they are. To be asked once it is done."""
        return self._future.result(timeout=0)

    def value(self) -> Any:
        """The answer. What the actor raised of ours is raised here as it was, all else as ClusterError."""
        try:
            return self.raw()
        except RayError as error:
            raise _ours(error, self._what) from None


def _ours(error: RayError, what: str) -> Exception:
    if isinstance(error, RayTaskError):
        cause = error.cause
        return cause if isinstance(cause, (InputError, ClusterError)) else ClusterError(f"{what}: {cause!r}")
    if isinstance(error, RayActorError):
        return NodeLostError(f"{what}: {first_line(error)}")
    return ClusterError(f"{what}: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """An error's type and first line: Ray's messages run over many."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
