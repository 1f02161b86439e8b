"""The folder of a run until it is published: `<output>.partial`, led by one process at a time.

A lock of the operating system says who leads, and goes with the process whatever ends it. Where the lock does not reach
(some network file systems), the time of the lock file does: its holder touches it every few seconds.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bigbia.errors import RunError, StorageError
from bigbia.io.durable import storage_errors, sync_folder, sync_tree
from bigbia.run.ledger import FOLDER

BEAT = 5.0  # seconds between two signs of life
REPLACED = f"{FOLDER}/replaced"  # marks an output that is being replaced
DEAD = 60.0  # seconds without one, after which a holder on another computer counts as gone


def partial_of(final: Path) -> Path:
    return final.with_name(final.name + ".partial")


def check_target(final: Path, overwrite: bool) -> None:
    """Refuse a place where nothing can be published."""
    if final.exists() and not overwrite:
        raise RunError(f"{final}: exists; choose another place, or pass overwrite=True (--overwrite) to replace it")
    if final.exists() and not _may_be_replaced(final):
        raise RunError(f"{final}: exists and is no Zarr folder; it is not replaced: choose another place")
    if not final.parent.is_dir():
        raise StorageError(f"{final}: the folder {final.parent} does not exist: make it first")
    if not os.access(final.parent, os.W_OK):
        raise StorageError(f"{final}: the folder {final.parent} cannot be written to")


def _may_be_replaced(final: Path) -> bool:
    """A Zarr folder, or an empty one."""
    known = (final / "zarr.json").exists() or (final / ".zgroup").exists()
    return final.is_dir() and (known or not any(final.iterdir()))


@contextmanager
def led(root: Path) -> Iterator[None]:
    """Lead the run in a folder, which is made where there is none. RunError while another process does."""
    lock = root / FOLDER / "lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = open(lock, "a+")  # noqa: SIM115  held until the end
    except OSError as error:
        raise StorageError(f"{root}: cannot be made: {error.strerror}") from None
    with file:
        with storage_errors(lock):
            _take(file, root)
        stop = threading.Event()
        threading.Thread(target=_beat, args=(lock, stop), daemon=True, name="bigbia-lock").start()
        try:
            yield
        finally:
            stop.set()
            with suppress(OSError):
                file.truncate(0)


def _take(file: Any, root: Path) -> None:
    file.seek(0)
    try:
        holder = json.loads(file.read() or "{}")
    except ValueError:
        holder = {}
    age = time.time() - os.fstat(file.fileno()).st_mtime
    who = f" ({holder['host']}, process {holder['pid']}, since {holder['since']})" if "pid" in holder else ""
    busy = RunError(f"{root}: another run is writing here{who}; wait for it, or choose another place")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise busy from None  # a file system without locks is left to the signs of life
    if holder.get("host", socket.gethostname()) != socket.gethostname() and age < DEAD:
        raise busy
    file.truncate(0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since}))
    file.flush()


def _beat(lock: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        with suppress(OSError):
            os.utime(lock)


def holder_of(root: Path) -> dict[str, Any] | None:
    """Who leads the run in a folder; None where nobody does."""
    try:
        with open(root / FOLDER / "lock") as file:
            holder = json.loads(file.read() or "{}")
            age = time.time() - os.fstat(file.fileno()).st_mtime
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return holder or {"host": "?", "pid": "?"}
            elsewhere = holder.get("host", socket.gethostname()) != socket.gethostname()
            return holder if elsewhere and age < DEAD else None
    except (OSError, ValueError):
        return None


def publish(root: Path, final: Path, overwrite: bool) -> None:
    """Give the folder its name, at once for everybody who looks; what it replaces goes last."""
    with storage_errors(final):
        _publish(root, final, overwrite)


def _publish(root: Path, final: Path, overwrite: bool) -> None:
    sync_tree(root)
    if not final.exists():
        os.rename(root, final)
    elif not overwrite:
        raise RunError(f"{final}: was made by another run meanwhile; nothing was replaced, the result is at {root}")
    elif not _exchanged(root, final):
        old = final.with_name(final.name + ".replaced")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
        os.rename(root, final)
        shutil.rmtree(old, ignore_errors=True)
    (final / FOLDER / "lock").unlink(missing_ok=True)  # kept until then: nobody else may lead a run that has its name
    sync_folder(final.parent)


def is_replaced(root: Path) -> bool:
    """Whether a `.partial` folder is an output that was replaced, left by a process killed while it swapped the names."""
    return (root / REPLACED).exists()


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system cannot."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    here, flag = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return not swap(here, os.fsencode(one), here, os.fsencode(other), flag)


def _exchanged(root: Path, final: Path) -> bool:
    """Swap the two names in one step and remove the old folder; False where the system cannot."""
    with suppress(OSError):  # an output of other software may be read-only within
        (final / FOLDER).mkdir(exist_ok=True)
        (final / REPLACED).touch()
    if not exchange(root, final):
        return False
    sync_folder(final.parent)
    # Under a name that nobody takes for a run: removing it may be cut short too.
    old = final.with_name(final.name + ".replaced")
    shutil.rmtree(old, ignore_errors=True)
    os.rename(root, old)
    shutil.rmtree(old, ignore_errors=True)
    return True
