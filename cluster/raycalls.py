"""Answers of Ray's actors, with Ray's errors put into ours."""

from collections.abc import Sequence
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
    except RayTaskError as error:
        if isinstance(error.cause, (InputError, ClusterError)):
            raise error.cause from None
        raise ClusterError(f"{what}: {error.cause!r}") from error
    except RayActorError as error:
        raise NodeLostError(f"{what}: {first_line(error)}") from error
    except RayError as error:
        raise ClusterError(f"{what}: {first_line(error)}") from error
    return values


def first_line(error: BaseException) -> str:
    """An error's type and first line: Ray's messages run over many."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
