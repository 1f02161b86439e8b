"""Where an image lies: a folder, local or behind fsspec.

What lies in a local store stays in it: a symbolic link that leads out of the store is refused, unless
`bigbia.follow_links` is set. A store that was downloaded could otherwise show any file of this machine as an image.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from bigbia import config
from bigbia.errors import BigbiaError, InputError, MissingExtraError, ParameterError, StorageError

DOCUMENT = 64 << 20  # bytes up to which a metadata document is read
METADATA = ("zarr.json", ".zgroup", ".zarray")
DEPTH = 8  # folders from an array up to the outermost one of its store
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "http": "aiohttp", "https": "aiohttp"}  # by protocol
_OPEN = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0)  # nonblock: a pipe would wait for its other end
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)

Files = list[tuple[str, int, str]]  # name, size, time


class Place:
    """A folder, local or behind fsspec, by its path or URL.

    >>> (Place("/data/x.zarr") / "labels").url
    '/data/x.zarr/labels'
    """

    def __init__(self, path: Any) -> None:
        text = os.fsdecode(os.fspath(path))
        if "\0" in text:
            raise ParameterError(f"{text!r}: a path cannot hold the character NUL: check what it was made of")
        if text.startswith("file://"):
            text = text[len("file://") :]
        self.local = "://" not in text and "::" not in text
        self.url = os.path.abspath(os.path.expanduser(text)) if self.local else text.rstrip("/")

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.url}/{name}")

    def __reduce__(self) -> Any:
        return Place, (self.url,)

    def __str__(self) -> str:
        """The path as it can be shown: a name may hold line breaks and the commands of a terminal."""
        return self.url if self.url.isprintable() else repr(self.url)[1:-1]

    @property
    def name(self) -> str:
        return self.url.rstrip("/").rsplit("/", 1)[-1]

    @property
    def parent(self) -> Place | None:
        head, _, tail = self.url.rpartition("/")
        return Place(head) if head and tail and not head.endswith(("/", ":")) else None

    def outward(self) -> Iterator[Place]:
        """This folder and those around it, up to the outermost one of the Zarr store; itself where there is no store.

        Folders without metadata of their own (`images`, `labels`) are passed over, at most two in a row.
        """
        yield self
        between: list[Place] = []
        folder = self.parent
        for _ in range(DEPTH):
            if folder is None or len(between) > 2:
                return
            between.append(folder)
            try:
                inside = any(folder.has(name) for name in METADATA)
            except StorageError:  # a bucket that may be read and not asked
                return
            if inside:
                yield from between
                between = []
            folder = folder.parent

    @cached_property
    def root(self) -> str | None:
        """The real folder that nothing read here may leave; None where links may lead anywhere, and behind fsspec."""
        if not self.local or config.truth("follow_links"):
            return None
        *_, outermost = self.outward()
        return os.path.realpath(outermost.url)

    @cached_property
    def remote(self) -> tuple[Any, str]:
        """The fsspec file system and the path in it."""
        import fsspec

        try:
            return fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            package = _PACKAGES.get(self.url.split("://")[0])
            if package is None:
                raise ParameterError(f"{self.url}: cannot be reached: {error}") from None
            raise MissingExtraError.of(package, self.url, "remote") from None
        except ValueError as error:
            raise ParameterError(f"{self.url}: cannot be reached: {error}") from None

    def kind(self) -> str | None:
        """What is there: "file", "folder", "device" (a pipe, a socket), or None."""
        if self.local:
            try:
                mode = os.stat(self.url).st_mode
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                    return None
                raise StorageError(f"{self}: cannot be read: {error.strerror}") from None
            return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "device"
        fs, path = self.remote
        with storage_errors(self.url):
            return "folder" if fs.isdir(path) else "file" if fs.exists(path) else None

    def read(self, name: str) -> bytes | None:
        """A whole small file, None where there is none. InputError for a link out of the store, and for a large one."""
        with storage_errors(f"{self}/{name}"):
            try:
                if self.local:
                    where = os.path.join(self.url, name)
                    check_inside(self.root, where)
                    with os.fdopen(open_file(where, None), "rb") as file:
                        return _small(file.read(DOCUMENT + 1), f"{self}/{name}")
                fs, path = self.remote
                return _small(fs.cat_file(f"{path}/{name}"), f"{self}/{name}")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            except BigbiaError:
                raise
            except Exception as error:
                if self.local and getattr(error, "errno", 0) == errno.ENAMETOOLONG:
                    return None
                # A bucket that may be read and not listed says "forbidden" of what is not there.
                if not self.local and (isinstance(error, PermissionError) or getattr(error, "status", 0) in (403, 404)):
                    return None
                raise

    def has(self, name: str) -> bool:
        if self.local:
            return os.path.lexists(os.path.join(self.url, name))
        fs, path = self.remote
        with storage_errors(self.url):
            return fs.exists(f"{path}/{name}")

    def names(self) -> list[str]:
        """What lies directly in the folder, sorted; nothing where it cannot be listed."""
        try:
            if self.local:
                check_inside(self.root, self.url)
                return sorted(os.listdir(self.url))
            fs, path = self.remote
            return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in fs.ls(path, detail=False))
        except (OSError, NotImplementedError):
            return []

    def listing(self) -> dict[str, tuple[int, str]] | None:
        """Every file below, by relative name: its size and when it was written. None where nobody can list.

        InputError for a link that leads out of the store, or to a folder.
        """
        if self.local:
            with storage_errors(str(self)):
                return {key: (size, str(time)) for key, size, time in _walk(self.url, "", self.root)}
        if self.url.startswith("http"):
            return None  # fsspec would follow the links of web pages
        fs, path = self.remote
        try:
            fs.invalidate_cache(path)
            found = fs.find(path, detail=True)
        except (OSError, NotImplementedError):
            return None
        if not found:
            return None
        return {
            name.removeprefix(path).lstrip("/"): (int(f.get("size") or 0), stamp_of(f)) for name, f in found.items()
        }

    def stat(self) -> tuple[int, str] | None:
        """Size of a remote file and when it was written, None where the server does not say when."""
        fs, path = self.remote
        with storage_errors(self.url):
            fs.invalidate_cache(path)
            found = fs.info(path)
        return (int(found.get("size") or 0), stamp_of(found)) if stamp_of(found) else None

    def store(self, read_only: bool = True) -> Any:
        """A zarr store."""
        from zarr.storage import FsspecStore, LocalStore

        if self.local:
            return LocalStore(self.url, read_only=read_only)
        return FsspecStore.from_url(self.url, read_only=read_only)


def _walk(folder: str, prefix: str, root: str | None, seen: frozenset[str] = frozenset()) -> Iterator[tuple]:
    with os.scandir(folder) as entries:
        for entry in entries:
            link = entry.is_symlink()
            if link:
                check_inside(root, entry.path)
            if entry.is_dir():
                around = seen
                if link:
                    if root is not None:
                        # Links within links can stand for a billion folders.
                        raise InputError(f"{shown(entry.path)}: is a link to a folder within an array: {_TRUST}")
                    around = seen | {os.path.realpath(entry.path)}
                    if len(around) == len(seen):
                        raise InputError(f"{shown(entry.path)}: leads back to a folder around it: remove the link")
                yield from _walk(entry.path, f"{prefix}{entry.name}/", root, around)
            else:
                try:
                    found = entry.stat()
                except OSError as error:  # a link to nowhere, as git-annex leaves them: absent; a link to itself too
                    if error.errno not in (errno.ENOENT, errno.ELOOP):
                        raise
                    continue
                yield prefix + entry.name, found.st_size, found.st_mtime_ns


_TRUST = "refused; if you trust it, set bigbia.follow_links to true (BIGBIA_FOLLOW_LINKS=true)"


def shown(path: str) -> str:
    """A path in one printable line."""
    return str(path) if path.isprintable() else repr(path)[1:-1]


def brief(value: Any, write: Callable[[Any], str] = str) -> str:
    """What a file says, for a message: one printable line that ends."""
    text = shown(write(value))
    return text if len(text) <= 200 else text[:200] + "..."


def check_inside(root: str | None, path: str) -> None:
    """Refuses what a link leads out of the root. What leads to nothing passes: it cannot be read."""
    if root is None or not os.path.exists(path):
        return
    real = os.path.realpath(path)
    if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
        raise InputError(f"{shown(path)}: is a link out of the store, to {shown(real)}: {_TRUST}")


def open_file(path: str, root: str | None) -> int:
    """The descriptor of a regular file. Where a root is given, links are followed only within it.

    A folder on the way to the file is not looked at again: `Place.listing` has refused linked ones.
    """
    try:
        descriptor = os.open(path, _OPEN | (_NO_LINK if root is not None else 0))
    except OSError as error:
        if root is None or error.errno not in (errno.ELOOP, errno.EMLINK):
            raise
        check_inside(root, path)
        descriptor = os.open(path, _OPEN)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, "is a device or a pipe, not a file")
    return descriptor


def _small(data: bytes, where: str) -> bytes:
    if len(data) > DOCUMENT:
        raise InputError(f"{where}: is larger than {DOCUMENT >> 20} MiB, which no metadata is: the file is damaged")
    return data


def stamp_of(found: Mapping[str, Any]) -> str:
    keys = ("etag", "ETag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "modified", "created")
    return "|".join(str(found[key]) for key in keys if found.get(key) is not None)


def stats(names: Sequence[str], place: Place) -> Files:
    """Name, size and time of files. Empty where a server does not tell."""
    if not place.local:
        found = place.stat()
        return [] if found is None else [(place.url, *found)]
    with storage_errors(place.url):
        return [(name, found.st_size, str(found.st_mtime_ns)) for name in names for found in [os.stat(name)]]


class storage_errors:
    """Turns what a disk or an object store raises into a StorageError that names the place."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        # Object stores raise what their libraries happen to: botocore's errors are no OSErrors.
        if isinstance(error, Exception) and not isinstance(error, BigbiaError):
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            raise StorageError(f"{self.where}: cannot be read: {reason}") from None
