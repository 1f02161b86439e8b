"""Scratch: what stages leave behind, a folder a stage, named by what the stage is.

    <scratch>/session-<id>/lock               held while the process that made the session lives
    <scratch>/session-<id>/<stage token>/...  records, one file each
                                        done  written when the stage's last task has run

Every file is written under a temporary name and renamed, so it is whole or absent; an absent file is an error, never
zeros. Voxels may be packed (`graph/packing.py`). A folder lives as long as something refers to its stage: a lazy array,
a stage built on it, or unfinished futures of a distributed client. Folders of sessions whose process was killed are
swept by the next session.
"""

from __future__ import annotations

import atexit
import copy
import fcntl
import json
import os
import shutil
import struct
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bigbia import config
from bigbia.errors import StorageError
from bigbia.graph import journal
from bigbia.graph.packing import checksum, packed, unpack

_MAGIC = b"bigbia02"
_HEAD = struct.Struct(f"<{len(_MAGIC)}sI{journal.SIZE}s")  # magic, length of the header, hash or zeros
_ALIGN = 64
PREFIX = "scratch/"  # of the names by which a run knows records
CHEAP = 1 << 28  # bytes of a stage that are copied to another disk rather than computed again
LOCK = ".lock"  # ends the name of a file that is only locked
TEMPORARY = ".tmp"  # ends the name of a file that is being written


class Folder:
    """The scratch folder of one stage, seen from any process. Records that a later process may go on with have `sums`."""

    def __init__(self, path: Path | str, sums: bool = False) -> None:
        self.path = Path(path)
        self.sums = sums

    def __reduce__(self) -> tuple:
        return (Folder, (str(self.path), self.sums))

    def file(self, name: str) -> Path:
        return self.path / name

    def exists(self, name: str) -> bool:
        return self.file(name).exists()

    @property
    def complete(self) -> bool:
        return self.exists("done")

    def finish(self) -> None:
        self.write("done", {})

    def write(self, name: str, arrays: Mapping[str, np.ndarray], pack: bool = False, replace: bool = True) -> None:
        """One record: named arrays in one file, whole or absent; packed, where that makes them smaller.

        With `replace=False` a record that is there already stays, even one that another process writes meanwhile.
        """
        path = self.file(name)
        header: list[list] = []
        at = 0
        data: list[tuple[int, Any]] = []
        for key, array in arrays.items():
            array = np.asarray(array)  # ascontiguousarray would make 0-d arrays 1-d
            if not array.flags.c_contiguous:
                array = array.copy()
            header.append([key, array.dtype.str, list(array.shape), at])
            pieces = packed(array) if pack else None
            if pieces is None:
                whole = array.reshape(-1).view(np.uint8).data
                header[-1] += [None, checksum(whole) if self.sums else None]
                data.append((at, whole))
                size = array.nbytes
            else:
                where = at
                for piece in pieces.data:
                    data.append((where, piece))
                    where += len(piece)
                header[-1] += [[pieces.rows, [len(p) for p in pieces.data], pieces.sums], None]
                size = where - at
            at += -(-size // _ALIGN) * _ALIGN
        text = json.dumps(header).encode()
        start = -(-(_HEAD.size + len(text)) // _ALIGN) * _ALIGN
        mark = journal.digest(f"{self.path.name}/{name}", [text]) if self.sums else ""
        head = _HEAD.pack(_MAGIC, len(text), bytes.fromhex(mark))
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb", buffering=0) as file:
                _write_all(file, (head + text).ljust(start, b"\0"))
                for offset, part in data:
                    if len(part):
                        file.seek(start + offset)
                        _write_all(file, part)
            if path.is_dir():  # the disk is damaged
                shutil.rmtree(path)
            if replace:
                os.replace(temporary, path)
            else:
                _rename_unless_there(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raised = StorageError(
                f"scratch {self.path}: {error.strerror or error} ({at >> 10} KiB to write); free space there, or name another folder: "
                "BIGBIA_SCRATCH=/path"
            )
            raised.errno = error.errno
            raise raised from error
        if self.sums:
            journal.note(journal.Written(f"{PREFIX}{self.path.name}/{name}", start + at, mark))

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """One at a time, of all processes: others wait."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.file(name + LOCK), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def remove(self, kind: str) -> None:
        """Remove the records of a kind: those whose names begin with `kind/`."""
        shutil.rmtree(self.file(kind), ignore_errors=True)

    def read(self, name: str, *keys: str) -> dict[str, np.ndarray]:
        """The arrays of a record; all of them, or those named."""
        return self.read_some(name, lambda key: not keys or key in keys)

    def read_some(self, name: str, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
        """The arrays of a record whose names are wanted."""
        with self._open(name) as file:
            start, header = self._header(file, name)
            return {about[0]: self._load(file, start, about) for about in header if wanted(about[0])}

    def read_rows(self, name: str, key: str, first: int, last: int) -> np.ndarray:
        """Rows first to last along the first axis of one array of a record."""
        with self._open(name) as file:
            start, header = self._header(file, name)
            for about in header:
                if about[0] == key:
                    return self._load(file, start, about, (first, last))
        raise StorageError(f"scratch {self.file(name)}: holds no {key!r}")

    def _open(self, name: str) -> Any:
        try:
            return open(self.file(name), "rb", buffering=0)
        except FileNotFoundError:
            raise StorageError(
                f"scratch {self.file(name)} is missing: the folder was removed, or the workers do not share it; compute again, on a cluster "
                "with bigbia.scratch (BIGBIA_SCRATCH) set to a folder that all workers see"
            ) from None

    def intact(self, name: str) -> bool:
        """Whether a record with a sum is there, whole, and in its place."""
        try:
            with open(self.file(name), "rb", buffering=0) as file:
                magic, length, mark = _HEAD.unpack(file.read(_HEAD.size))
                text = file.read(length)
                start = -(-(_HEAD.size + length) // _ALIGN) * _ALIGN
                found = journal.digest(f"{self.path.name}/{name}", [text])
                fits = magic == _MAGIC and bytes.fromhex(found) == mark  # the header has the sums of the arrays
                return fits and all(checksum(d) == total for d, total in self._stored(file, start, json.loads(text)))
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            return False

    def _stored(self, file: Any, start: int, header: list) -> Iterator[tuple[bytearray, int]]:
        """The bytes of every array of a record as they are stored, in pieces, each with its sum."""
        for _, dtype, shape, at, pieces, total in header:
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            where = start + at
            for n, one in zip(pieces[1], pieces[2]) if pieces else [(size, total)]:
                file.seek(where)
                data = bytearray(n)
                _read_all(file, data)
                where += n
                yield data, one

    def records(self) -> Iterator[str]:
        """The names of all records that are there."""
        for place, _, files in os.walk(self.path):
            for file in files:
                if not file.endswith((TEMPORARY, LOCK)):
                    yield (Path(place) / file).relative_to(self.path).as_posix()

    def _header(self, file: Any, name: str) -> tuple[int, list]:
        try:
            magic, length, _ = _HEAD.unpack(file.read(_HEAD.size))
            if magic != _MAGIC:
                raise ValueError
            return -(-(_HEAD.size + length) // _ALIGN) * _ALIGN, json.loads(file.read(length))
        except (ValueError, struct.error):
            raise self._damaged(file) from None

    def _damaged(self, file: Any) -> StorageError:
        return StorageError(f"scratch {file.name} is damaged: remove {self.path} and compute again")

    def _load(self, file: Any, start: int, about: list, part: tuple[int, int] | None = None) -> np.ndarray:
        """An array, or some rows of it, of which the header says this."""
        _, dtype, shape, at, pieces, total = about
        count = shape[0] if shape else 1
        first, last = part or (0, count)
        if part:
            shape = [last - first, *shape[1:]]
        row = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
        out = np.empty(shape, np.dtype(dtype))
        if not out.nbytes:
            return out
        voxels = out.reshape(-1).view(np.uint8)
        if not pieces:
            file.seek(start + at + first * row)
            _read_all(file, voxels.data)
            if total is not None and part is None and checksum(voxels.data) != total:
                raise self._damaged(file)
            return out
        rows, sizes, sums = pieces
        begin, end = first // rows, -(-last // rows)
        file.seek(start + at + sum(sizes[:begin]))
        for i in range(begin, end):
            data = bytearray(sizes[i])
            _read_all(file, data)
            a, b = max(first, i * rows), min(last, (i + 1) * rows)
            size = (min((i + 1) * rows, count) - i * rows) * row
            try:
                unpack(data, sums[i], size, voxels[(a - first) * row : (b - first) * row], (a - i * rows) * row)
            except (ValueError, RuntimeError):
                raise self._damaged(file) from None
        return out


def _rename_unless_there(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not path.exists():
            os.replace(temporary, path)
    temporary.unlink(missing_ok=True)


def _write_all(file: Any, data: Any) -> None:
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


def _read_all(file: Any, data: Any) -> None:
    view = memoryview(data)
    while len(view):
        n = file.readinto(view)
        if not n:
            raise StorageError(f"scratch {file.name} is cut short: remove its folder and compute again")
        view = view[n:]


# ---- sessions ------------------------------------------------------------------------------------------------------
class Session:
    """The scratch folders that this process owns."""

    def __init__(self, root: Path) -> None:
        self.root = root
        name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.path = root / f"session-{name}"
        new = root / f"new-{name}"  # gets its name once it is locked, so that no other process sweeps it before
        try:
            new.mkdir(parents=True, mode=0o700)
            self._lock_file = open(new / "lock", "w")  # noqa: SIM115  held until exit
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new.rename(self.path)
        except OSError as error:
            raise StorageError(
                f"scratch folder {root}: {error.strerror}; name another: BIGBIA_SCRATCH=/path"
            ) from error
        self.owner = os.getpid()
        self._lock = threading.RLock()  # finalizers may run inside a locked region
        self._owners: weakref.WeakValueDictionary[str, Owner] = weakref.WeakValueDictionary()
        self._to_remove: set[Path] = set()
        sweep(root)
        atexit.register(self.close)

    def folder(self, token: str) -> Owner:
        """The owner of a stage's folder: the folder goes when the last reference to its owner does."""
        with self._lock:
            owner = self._owners.get(token)
            if owner is None:
                owner = Owner(self.path / token)
                self._to_remove.discard(owner.path)
                self._owners[token] = owner
                weakref.finalize(owner, self._dropped, token, owner.path)
            self.remove_dropped()
            return owner

    def _dropped(self, token: str, path: Path) -> None:
        if os.getpid() == self.owner:
            with self._lock:
                if token not in self._owners:
                    self._to_remove.add(path)
                    self.remove_dropped()

    def remove_dropped(self) -> None:
        """Remove folders that nothing refers to, unless a distributed compute may still be reading them."""
        if self._to_remove and not _futures_pending():
            while self._to_remove:
                shutil.rmtree(self._to_remove.pop(), ignore_errors=True)

    def close(self) -> None:
        if os.getpid() == self.owner:
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock_file.close()


class Owner:
    """Keeps a stage's folder while it lives. Elsewhere (a worker) the folder is just a path."""

    def __init__(self, path: Path, sums: bool = False) -> None:
        self.path, self.sums = path, sums

    def __reduce__(self) -> tuple:
        return (Owner, (self.path, self.sums))

    def __deepcopy__(self, memo: dict) -> Any:
        """The owner that a copy of the stage has: see `moved`, and `graph/at_hand.py`."""
        other = memo.get(ELSEWHERE)
        return self if other is None else other(self)

    @property
    def folder(self) -> Folder:
        return Folder(self.path, self.sums)


ELSEWHERE: Any = "bigbia scratch"  # of a deep copy's memo: owner -> the owner that its copy has


def moved(things: Any, home: Path) -> Any:
    """A copy of some stages and nodes whose unfinished stages leave what they find in folders of `home`.

    So a run can be gone on with by another process, and does not meddle with what a lazy image of this one leaves.
    """

    def here(owner: Owner) -> Owner:
        return owner if owner.folder.complete else Owner(home / owner.path.name, sums=True)

    return copy.deepcopy(things, {ELSEWHERE: here})


def given_back(stage: Any, copied: Any) -> None:
    """Let a stage have what a run's copy of it found, where this is cheap: so a notebook does not compute it again."""
    mine, other = stage.folder, copied.folder
    if mine.path == other.path or mine.path.exists() or not other.complete:
        return
    try:
        os.rename(other.path, mine.path)
    except OSError:  # on another disk
        if sum(other.file(name).stat().st_size for name in other.records()) > CHEAP:
            return
        half = mine.path.with_name(f"{mine.path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
        try:
            shutil.copytree(other.path, half)
            os.rename(half, mine.path)
        except OSError:
            shutil.rmtree(half, ignore_errors=True)


def _futures_pending() -> bool:
    module = sys.modules.get("distributed.client")
    if module is None:
        return False
    return any(
        client.futures for client in list(getattr(module, "_global_clients", {}).values()) if client.status == "running"
    )


_session: Session | None = None
_session_lock = threading.Lock()


def session() -> Session:
    """This process's session; a new one where the scratch setting has changed."""
    global _session
    root = config.scratch_folder()
    with _session_lock:
        if _session is None or _session.owner != os.getpid() or _session.root != root:
            _session = Session(root)
        return _session


def sweep(root: Path) -> list[Path]:
    """Remove the sessions whose process no longer lives."""
    gone = []
    for path in root.glob("session-*"):
        try:
            with open(path / "lock", "r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
                gone.append(path)
        except FileNotFoundError:
            continue  # being made, or being removed, by its owner
        except OSError:
            continue  # its owner lives
    return gone
