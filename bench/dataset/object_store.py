"""An object store behind pyarrow.fs: what a dataset asks of it, with one message for whatever goes wrong there."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from joulelaw import InputError
from joulelaw.bench.dataset.storage import without_credentials
from joulelaw.bench.files import StorageError

_AT_A_TIME = 8
_TRY_AGAIN_S = 1.0
_TORN = "Failed to flush response stream"  # an answer that did not come whole
_GO_ON = "then run the same command again: it goes on where it stopped"
_CREDENTIALS = "give credentials that may read, write, list and delete there, in the environment or in a profile"
# What a message has in it, and what helps. Those that may pass by themselves are tried again by who is patient.
_PASSING = re.compile(r"NETWORK_CONNECTION|TIMEOUT|TIMED?.?OUT|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|curlCode")
_REMEDIES = {
    r"NO_SUCH_BUCKET|NoSuchBucket|no such bucket": "make the bucket, or name one that is there",
    r"ACCESS_DENIED|AccessDenied|HTTP status 40[13]|credential|PERMISSION_DENIED|UNAUTHENTICATED": _CREDENTIALS,
    r"INVALID_ACCESS_KEY|SIGNATURE|TOKEN|InvalidToken|EXPIRED": _CREDENTIALS,
    _PASSING.pattern: f"see to the network and the URI's endpoint_override, {_GO_ON}",
}


def opened(uri: str) -> "tuple[ObjectStore, str]":
    """The store that a URI names, and the key in it. InputError where pyarrow does not take the URI."""
    shown = without_credentials(uri).partition("?")[0]
    scheme, _, rest = uri.partition("://")
    options = f"?{rest.partition('?')[2]}" if "?" in rest else ""
    quick = (
        "" if scheme != "s3" or "allow_delayed_open" in options else f"{'&' if options else '?'}allow_delayed_open=true"
    )
    try:
        filesystem, key = fs.FileSystem.from_uri(uri + quick)  # one request a put, not three
    except pa.ArrowInvalid as error:
        secret = "@" in uri  # the message would show it
        what = "cannot be read as a URI" if secret else str(error).splitlines()[0]
        remedy = "see `Where a dataset can live` in docs/storage.md"
        raise InputError(what, where=f"{scheme}://..." if secret else shown, remedy=remedy) from None
    except OSError as error:  # the bucket's region is asked for
        raise storage_error(error, shown, "open", _secrets(uri)) from None
    return ObjectStore(filesystem, scheme, options, _secrets(uri)), key


class ObjectStore:
    """Calls of one pyarrow filesystem, from any thread.

    `guard` is called before each put and may refuse it; for `patience_s` seconds a put is tried again where the network
    is gone. Puts run in threads of their own: an interrupt that comes while one is made must not cut it short, as
    closing a stream puts what it has.
    """

    def __init__(
        self, filesystem: fs.FileSystem, scheme: str, options: str = "", secrets: tuple[str, ...] = ()
    ) -> None:
        self.scheme, self.options = scheme, options
        self.guard: Callable[[], None] = lambda: None
        self.patience_s = 0.0
        self._fs = filesystem
        self._secrets = secrets
        self._hands = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="joulelaw-put")
        self._pending: set[Future[None]] = set()

    def is_file(self, key: str) -> bool:
        with self._told(key, "read"):
            return bool(self._fs.get_file_info(key).type == fs.FileType.File)

    def is_folder(self, key: str) -> bool:
        with self._told(key, "read"):
            return bool(self._fs.get_file_info(key).type == fs.FileType.Directory)

    def stat(self, key: str) -> tuple[int, int]:
        """Size and time of the last put by the store's clock, in ns; S3 tells whole seconds."""
        with self._told(key, "read"):
            info = self._fs.get_file_info(key)
        if info.type != fs.FileType.File:
            raise FileNotFoundError(f"{self.scheme}://{key}")
        return info.size, info.mtime_ns or 0

    def files(self, key: str) -> list[tuple[str, int]]:
        """Name and time of the last put, as in `stat`, of each object in a folder, by name."""
        with self._told(key, "list"):
            found = self._fs.get_file_info(fs.FileSelector(key, allow_not_found=True))
        return sorted((info.base_name, info.mtime_ns or 0) for info in found if info.type == fs.FileType.File)

    def read(self, key: str) -> pa.Buffer:
        """The content; asked for anew where it was replaced meanwhile."""
        tries_left = 2
        while True:
            try:
                with self._told(key, "read"), self._fs.open_input_stream(key) as stream:
                    return stream.read_buffer()
            except StorageError as error:
                if not tries_left or _TORN not in error.what:
                    raise
            tries_left -= 1

    def put(self, key: str, data: "bytes | pa.Buffer", *, guarded: bool = True) -> None:
        """Returns when the object is there."""
        if threading.current_thread() is not threading.main_thread():
            self._put(key, data, guarded)
            return
        future = self._hands.submit(self._put, key, data, guarded)
        self._pending = {each for each in self._pending if not each.done()} | {future}
        future.result()

    def settle(self) -> None:
        """Waits for puts that nobody waited for to the end."""
        wait(self._pending)

    def remove(self, key: str, *, missing_ok: bool = False) -> None:
        try:
            with self._told(key, "remove"):
                self._fs.delete_file(key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def check_bucket(self, key: str) -> None:
        """Raises StorageError where the key's bucket is not there, or not open to us."""
        bucket = key.partition("/")[0]
        with self._told(bucket, "open"):
            if self._fs.get_file_info(bucket).type == fs.FileType.NotFound:
                raise OSError("no such bucket")

    def _put(self, key: str, data: "bytes | pa.Buffer", guarded: bool) -> None:
        until_s = time.monotonic() + (self.patience_s if guarded else 0.0)
        while True:
            if guarded:
                self.guard()
            try:
                with self._told(key, "write"), self._fs.open_output_stream(key) as stream:
                    stream.write(data)
                return
            except StorageError as error:
                if not _PASSING.search(error.what) or time.monotonic() > until_s:
                    raise
            time.sleep(_TRY_AGAIN_S)

    @contextmanager
    def _told(self, key: str, verb: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise storage_error(error, f"{self.scheme}://{key}", verb, self._secrets) from None


def storage_error(error: Exception, where: str, verb: str, secrets: tuple[str, ...] = ()) -> StorageError:
    """One message from what pyarrow says of a request, without what is secret."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    for secret in secrets:
        said = said.replace(secret, "***")
    remedy = next((remedy for pattern, remedy in _REMEDIES.items() if re.search(pattern, said)), "")
    return StorageError(f"cannot {verb}: {said}", where=where, remedy=remedy)


def _secrets(uri: str) -> tuple[str, ...]:
    authority = uri.partition("://")[2].partition("/")[0]
    user, _, password = authority.rpartition("@")[0].partition(":")
    return tuple(dict.fromkeys(each for raw in (user, password) for each in (raw, unquote(raw)) if each))
