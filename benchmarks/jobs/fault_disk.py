"""A file system that fails, put under a run: errors, kills and power losses at the n-th operation on a file.

Python's own calls are wrapped, in this process only: opening for writing, writing, renaming, removing, bringing to the
disk. Operations on files outside `root` are neither counted nor disturbed.

A power loss keeps what POSIX promises and no more: the bytes of a file up to its last fsync, the names in a folder as
they were at its last fsync. Whatever came later is there or not, by lot (`keep`).
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import shutil
import signal
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Faults:
    """What happens at which operation, counted from 1.

    kill     the process is killed, in the middle of a write
    power    the same, and what was not brought to the disk is lost
    error    the operations from `first` to `last` fail with this errno, the first write after half of its bytes
    """

    root: str
    kill: int = 0
    power: int = 0
    error: str = ""
    first: int = 0
    last: int = 0
    keep: float = 0.0  # share of what was not brought to the disk that is there all the same
    seed: int = 0


GROWING = {"open", "write", "mkdir", "link"}  # what a full disk refuses
FULL = {"ENOSPC", "EDQUOT"}


class Disk:
    """The operations so far, and what is safe of them."""

    def __init__(self, faults: Faults) -> None:
        self.faults, self.root = faults, os.path.realpath(faults.root)
        self.number = 0
        self.lock = threading.RLock()
        self.sizes: dict[int, int] = {}  # inode -> bytes that are safe
        self.names: dict[int, dict[str, int]] = {}  # inode of a folder -> name -> inode
        self.old: dict[int, str] = {}  # inode of a file that has lost its name -> where it still is
        self.kept = self.root + ".lost"
        if faults.power:
            os.makedirs(self.kept, exist_ok=True)
            for place, _, files in os.walk(self.root):
                self.names[os.stat(place).st_ino] = listed(place)
                for file in files:
                    about = os.stat(os.path.join(place, file))
                    self.sizes[about.st_ino] = about.st_size

    def within(self, path: Any) -> bool:
        try:
            full = os.path.realpath(os.fspath(path))
        except TypeError:
            return False
        return isinstance(full, str) and (full == self.root or full.startswith(self.root + os.sep))

    def step(self, kind: str) -> bool:
        """Count an operation; True where half of it should be done before it fails."""
        faults = self.faults
        self.number += 1
        if self.number == faults.kill:
            return True
        if self.number == faults.power:
            if kind == "write":
                return True
            self.lose()
        if faults.error and faults.first <= self.number <= faults.last:
            if faults.error in FULL and kind not in GROWING:
                return False
            if kind == "write" and self.number == faults.first:
                return True
            self.fail()
        return False

    def fail(self) -> None:
        if self.faults.kill == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.faults.power == self.number:
            self.lose()
        number = getattr(errno, self.faults.error)
        raise OSError(number, os.strerror(number))

    # ---- power
    def synced(self, handle: int) -> None:
        if not self.faults.power:
            return
        about = os.fstat(handle)
        if stat.S_ISDIR(about.st_mode):
            self.names[about.st_ino] = listed(f"/proc/self/fd/{handle}")
        else:
            self.sizes[about.st_ino] = about.st_size

    def keep(self, path: Any) -> None:
        """A file is about to lose its name."""
        if not self.faults.power:
            return
        try:
            about = os.lstat(path)
        except FileNotFoundError:
            return
        if stat.S_ISREG(about.st_mode) and about.st_ino not in self.old:
            self.old[about.st_ino] = os.path.join(self.kept, str(about.st_ino))
            real["link"](path, self.old[about.st_ino])

    def lose(self) -> None:
        """The power goes."""
        lot = random.Random(self.faults.seed)
        places = {os.stat(place).st_ino: place for place, _, _ in os.walk(self.root, topdown=False)}
        for inode, path in places.items():
            self._lose_names(inode, path, places, lot)
        for place, _, files in os.walk(self.root):
            for file in sorted(files):
                self._lose_bytes(os.path.join(place, file), lot)
        os.kill(os.getpid(), signal.SIGKILL)

    def _lose_names(self, inode: int, path: str, places: dict[int, str], lot: random.Random) -> None:
        safe, now = self.names.get(inode, {}), listed(path)
        for name in sorted({*safe, *now}):
            here = os.path.join(path, name)
            if safe.get(name) == now.get(name) or lot.random() < self.faults.keep:
                continue
            before = safe.get(name)
            if before is None:
                # A folder that has another, safe name goes back there; what has none goes.
                if os.path.isdir(here) and not self._is_safe(now[name]):
                    shutil.rmtree(here)
                elif not os.path.isdir(here):
                    real["unlink"](here)
            elif before in self.old:
                if name in now:
                    real["unlink"](here)
                real["link"](self.old[before], here)
            elif before in places and places[before] != here and not os.path.lexists(here):
                real["rename"](places[before], here)

    def _is_safe(self, inode: int) -> bool:
        return any(inode in names.values() for names in self.names.values())

    def _lose_bytes(self, path: str, lot: random.Random) -> None:
        about = os.stat(path)
        safe = self.sizes.get(about.st_ino, 0)
        if about.st_size > safe and lot.random() >= self.faults.keep:
            os.truncate(path, safe)


def listed(path: str) -> dict[str, int]:
    with os.scandir(path) as entries:
        return {entry.name: entry.inode() for entry in entries}


real: dict[str, Any] = {}
_disk: Disk | None = None


def count() -> int:
    """The operations so far."""
    return _disk.number if _disk else 0


def install(faults: Faults) -> None:
    """Put the faults under this process."""
    global _disk
    disk = _disk = Disk(faults)
    names = ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "link")
    real.update({name: getattr(os, name) for name in names}, open=builtins.open)

    class Counted(io.FileIO):
        def write(self, data: Any) -> int:
            with disk.lock:
                if disk.step("write"):
                    super().write(memoryview(data)[: len(data) // 2])
                    disk.fail()
                return super().write(data)

    def open_(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **words: Any) -> Any:
        if set(mode) & set("wxa+") and disk.within(file):
            with disk.lock:
                if not os.path.exists(file) and disk.step("open"):
                    disk.fail()
                if "b" in mode and buffering == 0:
                    return Counted(file, mode.replace("b", ""))
        return real["open"](file, mode, buffering, *rest, **words)

    def fsync(handle: int) -> None:
        if not disk.within(f"/proc/self/fd/{handle}"):
            return real["fsync"](handle)
        with disk.lock:
            if disk.step("fsync"):
                disk.fail()
            disk.synced(handle)
            return None

    def moving(name: str) -> Any:
        def move(src: Any, dst: Any, **words: Any) -> None:
            if words or not disk.within(dst):
                return real[name](src, dst, **words)
            with disk.lock:
                if disk.step("link" if name == "link" else "rename"):
                    disk.fail()
                if name != "link":
                    disk.keep(dst)
                return real[name](src, dst)

        return move

    def removing(name: str) -> Any:
        def remove(path: Any, **words: Any) -> None:
            if words or not disk.within(path):
                return real[name](path, **words)
            with disk.lock:
                if disk.step("unlink"):
                    disk.fail()
                disk.keep(path)
                return real[name](path)

        return remove

    def mkdir(path: Any, *rest: Any, **words: Any) -> None:
        if words.get("dir_fd") is not None or not disk.within(path) or os.path.isdir(path):
            return real["mkdir"](path, *rest, **words)
        with disk.lock:
            if disk.step("mkdir"):
                disk.fail()
            return real["mkdir"](path, *rest, **words)

    builtins.open = open_  # type: ignore[assignment]
    io.open = open_  # type: ignore[assignment]
    os.fsync, os.mkdir = fsync, mkdir
    for name in ("replace", "rename", "link"):
        setattr(os, name, moving(name))
    for name in ("unlink", "remove"):
        setattr(os, name, removing(name))


def swept(root: Path) -> None:
    """Remove what a loss has set aside."""
    shutil.rmtree(f"{os.path.realpath(root)}.lost", ignore_errors=True)
