"""The ledger: what a run has done, a line for each task, so that another process can go on where one was stopped.

    <output>/_bigbia/ledger/<stage>.<step>.jsonl    a line a task: its block, the files it wrote with their hashes, how long
    <output>/_bigbia/ledger/<stage>.records         what a finished stage left in scratch

A task counts as done when its line is there and the files it names are what the line says. One process writes the
ledger, the one that leads the run; a line that was cut off is no line. The last line of a block is the one that counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bigbia import config
from bigbia.errors import StorageError
from bigbia.graph.boxes import Index
from bigbia.graph.journal import Written
from bigbia.io.durable import intact, replace, storage_errors, sync_folder

FOLDER = "_bigbia"
T = TypeVar("T")
NONE = -1  # of a block without a line


@dataclass(frozen=True)
class Entry:
    """A task that is done."""

    block: Index
    files: tuple[Written, ...]
    seconds: float
    attempts: int
    worker: str
    peak: int  # bytes that the worker's process had taken by then, at most
    at: float  # when, seconds since 1970
    missing: str = ""  # why the block holds no result, where it was given up

    def line(self) -> bytes:
        found = {
            "block": list(self.block),
            "files": [list(f) for f in self.files],
            "seconds": round(self.seconds, 4),
            "attempts": self.attempts,
            "worker": self.worker,
            "peak": self.peak,
            "at": round(self.at, 3),
        }
        if self.missing:
            found["missing"] = self.missing
        text = json.dumps(found, separators=(",", ":"))
        return f'{text[:-1]},"sum":{zlib.crc32(text.encode())}}}\n'.encode()

    @classmethod
    def of(cls, line: bytes) -> Entry:
        """The entry of a line. ValueError where it is none."""
        try:
            found = json.loads(line)
            if found.pop("sum") != zlib.crc32(json.dumps(found, separators=(",", ":")).encode()):
                raise ValueError("its sum does not fit")  # another block's number would be believed
            return cls(
                tuple(int(i) for i in found["block"]),
                tuple(Written(str(name), int(n), str(digest)) for name, n, digest in found["files"]),
                float(found["seconds"]),
                int(found["attempts"]),
                str(found["worker"]),
                int(found["peak"]),
                float(found["at"]),
                str(found.get("missing", "")),
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(str(error)) from None


def ledger_folder(root: Path) -> Path:
    return root / FOLDER / "ledger"


def stage_name(kind: str, token: str) -> str:
    """A stage as a file name."""
    return f"{re.sub('[^a-z0-9]+', '-', kind.lower()).strip('-')}-{token[:16]}"


class Lines:
    """The file of one step."""

    def __init__(self, path: Path, numblocks: Sequence[int]) -> None:
        self.path, self.numblocks = path, tuple(numblocks)
        self._file: Any = None

    def place(self, block: Index) -> int:
        """Which of the step's tasks, in raster order. ValueError for none of them."""
        if len(block) != len(self.numblocks) or not all(0 <= i < n for i, n in zip(block, self.numblocks)):
            raise ValueError(f"{block} is no block of {self.numblocks}")
        at = 0
        for i, n in zip(block, self.numblocks):
            at = at * n + i
        return at

    def _offsets(self) -> np.ndarray:
        """Where each task's last line begins: eight bytes a task, however long the lines are."""
        found = np.full(int(np.prod(self.numblocks, dtype=np.int64)), NONE, np.int64)
        for offset, entry in entries_at(self.path):
            try:
                found[self.place(entry.block)] = offset
            except ValueError:
                continue
        return found

    def entries(self) -> Iterator[Entry]:
        """The last entry of each task, in the order of the blocks."""
        if not self.path.exists():
            return
        offsets = self._offsets()
        with open(self.path, "rb") as file:
            for offset in offsets[offsets != NONE].tolist():
                file.seek(offset)
                yield Entry.of(file.readline())

    def done(self, good: Callable[[Entry], bool]) -> tuple[np.ndarray, list[Index]]:
        """Which tasks are done, and which were but are damaged."""
        found = np.zeros(int(np.prod(self.numblocks, dtype=np.int64)), bool)
        damaged: list[Index] = []
        for entry, fine in checked(self.entries(), good):
            if fine:
                found[self.place(entry.block)] = True
            else:
                damaged.append(entry.block)
        return found, damaged

    def add(self, entry: Entry) -> None:
        """A line more; it is with the operating system when this returns, so killing this process does not lose it."""
        with storage_errors(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115  until `close`
                if self._file.tell() and not _ends_in_a_line(self.path):
                    self._file.write(b"\n")  # after one that was cut off
            self._file.write(entry.line())

    def close(self) -> None:
        """Bring the lines to the disk."""
        if self._file is not None:
            file, self._file = self._file, None
            with storage_errors(self.path), file:
                os.fsync(file.fileno())
                sync_folder(self.path.parent)


def _ends_in_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def entries_at(path: Path) -> Iterator[tuple[int, Entry]]:
    """Every entry of a file and where its line begins; what is no whole line is passed over."""
    at = 0
    try:
        file = open(path, "rb")  # noqa: SIM115
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
        return
    with file:
        for line in file:
            here, at = at, at + len(line)
            if not line.endswith(b"\n"):
                return
            try:
                yield here, Entry.of(line)
            except ValueError:
                continue


def checked(things: Iterable[T], good: Callable[[T], bool]) -> Iterator[tuple[T, bool]]:
    """Things and whether they are good, asked on all threads, a few at a time."""
    rest = iter(things)
    with ThreadPoolExecutor(config.threads()) as pool:
        while some := list(islice(rest, 64 * config.threads())):
            yield from zip(some, pool.map(good, some))


def entries_of(root: Path, names: Iterable[str]) -> Iterator[Entry]:
    """Every entry of some ledgers of an output."""
    for name in names:
        for _, entry in entries_at(ledger_folder(root) / name):
            yield entry


def results_of(root: Path, manifest: Mapping[str, Any]) -> Iterator[Written]:
    """Every file that holds results of an output: those of its ledgers, and the tables and the pipeline."""
    for entry in entries_of(root, manifest["ledger"]):
        yield from entry.files
    yield from (Written(*one) for one in manifest["others"])


def all_intact(root: Path, files: Iterable[Written]) -> bool:
    return all(intact(root, file) for file in files)


class Total:
    """One hash for many files, whatever their order, and their bytes: each is hashed with its name, the numbers added."""

    def __init__(self, files: Iterable[Written] = ()) -> None:
        self.nbytes = self._sum = 0
        for file in files:
            self.add(file)

    def add(self, file: Written) -> None:
        name, nbytes, digest = file
        one = hashlib.blake2b(f"{name}\0{nbytes}\0{digest}".encode(), digest_size=32).digest()
        self._sum = (self._sum + int.from_bytes(one, "big")) % (1 << 256)
        self.nbytes += nbytes

    @property
    def root(self) -> str:
        return f"{self._sum:064x}"


def root_of(files: Iterable[Written]) -> str:
    return Total(files).root


def write_json(path: Path, value: Any) -> None:
    """A small document, whole or absent, on the disk."""
    with storage_errors(path):
        replace(path, json.dumps(value, indent=1, default=str).encode() + b"\n")


def read_json(path: Path) -> Any:
    """A document, None where there is none. StorageError where it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path}: is damaged: {error}") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None
