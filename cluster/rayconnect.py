"""A connection to a Ray cluster that others started, with one clear message for each way in which it is refused."""

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import ray
from ray._private.authentication.authentication_token_setup import (
    ensure_token_if_auth_enabled,
    maybe_enable_token_auth_if_token_available,
)
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError

import joulelaw
from joulelaw import InputError

ROOT = str(Path(joulelaw.__file__).parent)
_KNOCK_S = 10.0
_ANSWER_S = 20.0
_WHERE = "RAY_ADDRESS"
_TOKEN = (
    "set RAY_AUTH_MODE=token and the cluster's own token, in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH "
    "names, or in ~/.ray/auth_token"
)


def connect_ray(address: str) -> None:
    """Connects this process to the head at `address` (host:port, or `auto` on one of the cluster's own machines).

    Raises:
        InputError: nobody answers there, no token or a wrong one, another version of Ray or Python.
    """
    if address.startswith("ray://"):  # its server would do what we need on our own side
        what = f"{address} is the address of Ray's client server"
        raise InputError(what, where=_WHERE, remedy="give the head's own, host:6379, or submit the study as a job")
    # A submitted job has its own runtime environment, with the working directory on the path.
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    runtime_env = None if submitted else {"env_vars": {"PYTHONPATH": f"{ROOT}:${{PYTHONPATH}}"}}
    try:
        head = canonicalize_bootstrap_address(address) or address
        if address == "auto":  # as ray.init: a named head that has no tokens would take ours for a wrong one
            maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        _knock(head)
        ray.init(address=head, log_to_driver=False, logging_level="ERROR", runtime_env=runtime_env)
    except AuthenticationError as error:
        wrong = "InvalidAuthToken" in str(error)
        what = "the token is missing or another one" if wrong else "token authentication is on, but no token is found"
        raise InputError(f"cannot connect to Ray at {address}: {what}", where=_WHERE, remedy=_TOKEN) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise _refused(address, error) from error


def _refused(address: str, error: Exception) -> InputError:
    versions = re.findall(r"Ray: (\S+)\s+Python: (\S+)", str(error))
    if "Version mismatch" in str(error) and len(versions) == 2:
        theirs, ours = (f"Ray {version} on Python {python}" for version, python in versions)
        what = f"the cluster at {address} runs {theirs}, this process {ours}"
        return InputError(what, where=_WHERE, remedy="have the same versions on all nodes: docs/cluster.md")
    remedy = "see that `ray status` answers there"
    return InputError(f"cannot connect to Ray at {address}: {error}", where=_WHERE, remedy=remedy)


def _knock(head: str) -> None:
    """Sees within seconds that nobody listens, or not to us; Ray itself would try for minutes, and say so each second.

    Raises:
        OSError: nobody there, or somebody who is no Ray head.
        AuthenticationError: there is no token, or it is not the head's.
    """
    host, _, port = head.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    # As in ray.init: asking with token authentication and without a token would end this process.
    ensure_token_if_auth_enabled(create_token_if_missing=False)
    answers: list[Exception | None] = []
    asking = threading.Thread(target=lambda: answers.append(_ask(head)), daemon=True)
    with _silent():
        asking.start()
        asking.join(_ANSWER_S)
    if not answers:
        raise ConnectionError("somebody listens there, but does not answer as a Ray head does")
    if answers[0] is not None:
        raise answers[0]


def _ask(head: str) -> Exception | None:
    try:
        GcsClient(address=head)
    except Exception as error:
        return error
    return None


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what Ray's own code writes to standard error meanwhile: the error that it also raises."""
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
