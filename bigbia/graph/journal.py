"""What a task writes: each file with its size and a hash, noted while the task runs, for the ledger of the run.

The hash is of the bytes and of the file's name in the run, so that a whole file in the wrong place is found too. Never
crc32c: a file that ends in its own crc32c, as Zarr's codec leaves it, has the same crc32c as every other such file.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

SIZE = 16  # bytes of a hash


class Written(NamedTuple):
    """A file that a task wrote."""

    name: str  # in the run's folder, with /
    nbytes: int
    digest: str


_here = threading.local()


@contextmanager
def noting() -> Iterator[list[Written]]:
    """The files that this thread writes within the context."""
    before, _here.files = getattr(_here, "files", None), []
    try:
        yield _here.files
    finally:
        _here.files = before


def note(file: Written) -> None:
    files = getattr(_here, "files", None)
    if files is not None:
        files.append(file)


def digest(name: str, parts: Iterable[Any]) -> str:
    """The hash of a file: of its name in the run, and of its bytes, given in pieces."""
    found = hashlib.blake2b(name.encode() + b"\0", digest_size=SIZE, person=b"bigbia")
    for part in parts:
        found.update(part)
    return found.hexdigest()
