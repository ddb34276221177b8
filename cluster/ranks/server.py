"""The handle on a fork server: starts it as a subprocess, waits until it can fork, starts it anew if it died."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import joulelaw
from joulelaw.cluster.failures import ForkServerError
from joulelaw.cluster.ranks.scratch import FORK_PREFIX, ScratchFolder
from joulelaw.cluster.ranks.secret_names import without_secrets
from joulelaw.cluster.ranks.wire import Message

# While libraries load: no thread pool may start (a fork would lose its threads), and CUDA is asked for through NVML.
_SINGLE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
_FOLDER_BYTES = 90  # with "/fork.sock": the kernel's limit is 108
_END_S = 5.0
_LAST_LINES = 5


@dataclass(frozen=True)
class ServerStatus:
    """What a server said of itself when it was ready to fork."""

    pid: int
    threads: int
    cuda_initialized: bool
    preload_s: float


class ForkServer:
    """A fork server of this process, and ended with it. `preload` are module names, `env` goes on top of ours.

    The server inherits the environment less secrets and CUDA_VISIBLE_DEVICES: each rank gets its own. What its
    libraries print goes to `log_path`, or to a file that is deleted with the server.
    """

    def __init__(
        self, preload: Sequence[str] = (), env: Mapping[str, str] | None = None, log_path: Path | None = None
    ) -> None:
        self._preload = tuple(preload)
        self._env = dict(env or {})
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: ScratchFolder | None = None
        self._ready: int | None = None
        self._status: ServerStatus | None = None

    def start(self) -> None:
        """Starts the process and returns; the libraries load meanwhile (seconds for torch and transformers)."""
        self.close()
        self._folder = ScratchFolder.create(FORK_PREFIX, _FOLDER_BYTES)
        read_end, write_end = os.pipe()
        command = [sys.executable, "-P", "-m", "joulelaw.cluster.ranks.forkserver", "--socket", str(self._socket)]
        command += ["--ready-fd", str(write_end), "--preload", ",".join(self._preload)]
        self._ready = read_end
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,  # never written: it closes when this process ends, and the server with it
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(write_end,),
                    env=self._environment(),
                    start_new_session=True,  # Ctrl-C in the terminal is for the driver
                )
        finally:
            os.close(write_end)

    def wait_ready(self, timeout_s: float = 120.0) -> ServerStatus:
        """Waits until the server can fork; ForkServerError if it died, is unfit, or is not ready in time."""
        if self._status is None:
            try:
                self._status = self._judge(self._read_answer(timeout_s))
            except ForkServerError:
                self.close()
                raise
        return self._status

    def _judge(self, answer: Message) -> ServerStatus:
        if answer["error"]:
            raise ForkServerError(f"the fork server {answer['error']}")
        status = ServerStatus(*(answer[name] for name in ("pid", "server_threads", "cuda_initialized", "preload_s")))
        if status.threads != 1 or status.cuda_initialized:
            raise ForkServerError(f"preloading {', '.join(self._preload)} left the fork server unfit to fork: {status}")
        return status

    @property
    def address(self) -> str:
        """Where ranks are asked for. Starts the server where there is none or it has died, and waits for it."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        self.wait_ready()
        return str(self._socket)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def close(self) -> None:
        """Ends the server and every rank that it forked, and waits for it."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:  # still importing, or stuck in a library
                self._process.kill()
                self._process.wait()
        if self._ready is not None:
            os.close(self._ready)
        if self._folder is not None:
            self._folder.remove()
        self._process = self._folder = self._ready = self._status = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _socket(self) -> Path:
        assert self._folder is not None
        return self._folder.path / "fork.sock"

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in without_secrets(os.environ).items() if name != "CUDA_VISIBLE_DEVICES"
        }
        root = str(Path(joulelaw.__file__).parent)
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
        return {**inherited, "PYTHONPATH": path, **_SINGLE_THREAD, **self._env}

    @property
    def _log(self) -> Path:
        assert self._folder is not None
        return self._log_path or self._folder.path / "server.log"

    def _read_answer(self, timeout_s: float) -> Message:
        """The one line on the ready pipe."""
        deadline = time.monotonic() + timeout_s
        assert self._ready is not None
        assert self._process is not None
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._ready], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise ForkServerError(f"the fork server is not ready after {timeout_s:g} s{self._last_words()}")
            data = os.read(self._ready, 4096)
            if not data:
                code = self._process.wait()
                raise ForkServerError(f"the fork server ended with {code} before it was ready{self._last_words()}")
            line += data
        answer: Message = json.loads(line)
        return answer

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]
        return f"; its last lines: {' / '.join(lines)}" if lines else ""
