"""One process in which the tutorial's commands run one after the other: starting Python for each took a second.

Reads a JSON list of words a line; answers with exit code, output (of what a command starts, too) and the heavy
libraries that are loaded by then.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from joulelaw.bench.cli import main

HEAVY = ("torch", "ray", "transformers", "deepspeed")


@contextmanager
def written_to(file: IO[bytes], descriptor: int) -> Iterator[None]:
    """What is written to a descriptor goes to a file, also by processes that are started meanwhile."""
    before = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        os.dup2(before, descriptor)
        os.close(before)


def run(words: list[str]) -> dict[str, object]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with written_to(out, 1), written_to(err, 2):
            code = main(words)
            sys.stdout.flush()
            sys.stderr.flush()
        texts = [os.pread(file.fileno(), 2**24, 0).decode() for file in (out, err)]
    loaded = [name for name in HEAVY if name in sys.modules]
    return {"code": int(code), "out": texts[0], "err": texts[1], "loaded": loaded}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)
