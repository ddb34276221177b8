"""An S3 server on this machine (moto's), with one bucket: requests, listings and errors are real ones."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

BUCKET = "studies"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTS",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3Server:
    """What is put there outlives `stop` and a second `start`, as a store outlives its network."""

    def __init__(self, port: int = 0) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    def uri(self, folder: str, bucket: str = BUCKET) -> str:
        return f"s3://{bucket}/{folder}?scheme=http&endpoint_override=127.0.0.1:{self.port}&region=us-east-1"

    def filesystem(self) -> fs.FileSystem:
        """With the right to make buckets."""
        options = {"allow_bucket_creation": True, "allow_bucket_deletion": True}
        return fs.S3FileSystem(scheme="http", endpoint_override=f"127.0.0.1:{self.port}", region="us-east-1", **options)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        server = S3Server()
        server.filesystem().create_dir(BUCKET)
        try:
            yield server
        finally:
            server.stop()


def child_environment() -> dict[str, str]:
    """For a process that uses the server."""
    return {**os.environ, **CREDENTIALS}
