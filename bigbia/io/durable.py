"""Files that are whole or absent, and on the disk when the call returns."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bigbia.errors import StorageError
from bigbia.graph import journal
from bigbia.graph.journal import Written

TEMPORARY = ".tmp"  # ends the name of a file that is being written
PIECE = 4 << 20
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # file systems that cannot


def put(root: Path, name: str, data: bytes, *, read_back: bool = False) -> Written:
    """Write `root/name`, and note it for the ledger.

    With `read_back` the file is read again and compared, which finds a disk that does not keep what it is given.
    """
    path = root / name
    with storage_errors(path):
        replace(path, data)
        found = Written(name, len(data), journal.digest(name, [data]))
        if read_back and file_digest(root, name) != found.digest:
            raise StorageError(f"{path}: what is read back differs from what was written: check the disk")
    journal.note(found)
    return found


def replace(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, bring it to the disk, and give it its name."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")
    try:
        try:
            file = open(temporary, "wb", buffering=0)  # noqa: SIM115  opened twice where its folder is new
        except FileNotFoundError:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            file = open(temporary, "wb", buffering=0)  # noqa: SIM115
        with file:
            view = memoryview(data)
            while len(view):
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        put_in_place(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a file its name, also where a damaged disk has a folder of that name."""
    try:
        os.replace(temporary, path)
    except IsADirectoryError:
        shutil.rmtree(path)
        os.replace(temporary, path)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except PermissionError:  # a folder that may be written and not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Bring the names in a folder, and in all folders below it, to the disk; files bring themselves."""
    for place, _, _ in os.walk(folder):
        sync_folder(Path(place))


def file_digest(root: Path, name: str) -> str:
    """The hash of a file as it is on the disk."""
    return journal.digest(name, _pieces(root / name))


def written(root: Path, name: str) -> Written:
    """A file as it is on the disk now."""
    return Written(name, os.stat(root / name).st_size, file_digest(root, name))


def intact(root: Path, written: Written) -> bool:
    """Whether a file is what the ledger says it is: there, of that size, with that hash."""
    try:
        if os.stat(root / written.name).st_size != written.nbytes:
            return False
        return file_digest(root, written.name) == written.digest
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
        return False
    except OSError as error:
        if error.errno == errno.EIO:  # a sector that cannot be read is a damaged file
            return False
        raise


def _pieces(path: Path) -> Iterator[Any]:
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(PIECE):
            yield piece


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns what the disk says into a StorageError that names the file and keeps the number of the error."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raised = StorageError(f"{path}: cannot be written: {error.strerror or error}")
        raised.errno = error.errno
        raise raised from None
