"""Where an image lies: a folder, local or behind fsspec."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from bigbia.errors import BigbiaError, ParameterError, StorageError


class Place:
    """A folder, local or behind fsspec, by its path or URL.

    >>> (Place("/data/x.zarr") / "labels").url
    '/data/x.zarr/labels'
    """

    def __init__(self, path: Any) -> None:
        text = os.fspath(path)
        if text.startswith("file://"):
            text = text[len("file://") :]
        self.local = "://" not in text and "::" not in text
        self.url = os.path.abspath(os.path.expanduser(text)) if self.local else text.rstrip("/")

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.url}/{name}")

    def __reduce__(self) -> Any:
        return Place, (self.url,)

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return self.url.rstrip("/").rsplit("/", 1)[-1]

    @property
    def parent(self) -> Place | None:
        head, _, tail = self.url.rpartition("/")
        return Place(head) if head and tail and not head.endswith(("/", ":")) else None

    @cached_property
    def remote(self) -> tuple[Any, str]:
        """The fsspec file system and the path in it."""
        import fsspec

        try:
            return fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ParameterError(f"{self.url}: cannot be reached: {error}") from None

    def kind(self) -> str | None:
        """What is there: "file", "folder", or None."""
        if self.local:
            return "folder" if os.path.isdir(self.url) else "file" if os.path.exists(self.url) else None
        fs, path = self.remote
        with storage_errors(self.url):
            return "folder" if fs.isdir(path) else "file" if fs.exists(path) else None

    def read(self, name: str) -> bytes | None:
        """A whole small file, None where there is none."""
        with storage_errors(f"{self.url}/{name}"):
            try:
                if self.local:
                    with open(os.path.join(self.url, name), "rb") as file:
                        return file.read()
                fs, path = self.remote
                return fs.cat_file(f"{path}/{name}")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            except Exception as error:
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
                return sorted(os.listdir(self.url))
            fs, path = self.remote
            return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in fs.ls(path, detail=False))
        except (OSError, NotImplementedError):
            return []

    def listing(self) -> dict[str, tuple[int, str]] | None:
        """Every file below, by relative name: its size and when it was written. None where nobody can list."""
        if self.local:
            with storage_errors(self.url):
                return {key: (size, str(time)) for key, size, time in _walk(self.url, "")}
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
        return {name.removeprefix(path).lstrip("/"): (int(f.get("size") or 0), _stamp(f)) for name, f in found.items()}

    def stat(self) -> tuple[int, str] | None:
        """Size of a remote file and when it was written, None where the server does not say when."""
        fs, path = self.remote
        with storage_errors(self.url):
            fs.invalidate_cache(path)
            found = fs.info(path)
        return (int(found.get("size") or 0), _stamp(found)) if _stamp(found) else None

    def store(self, read_only: bool = True) -> Any:
        """A zarr store."""
        from zarr.storage import FsspecStore, LocalStore

        if self.local:
            return LocalStore(self.url, read_only=read_only)
        return FsspecStore.from_url(self.url, read_only=read_only)


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            else:
                try:
                    found = entry.stat()
                except FileNotFoundError:  # a link to nowhere, as git-annex leaves them: absent
                    continue
                yield prefix + entry.name, found.st_size, found.st_mtime_ns


def _stamp(found: Mapping[str, Any]) -> str:
    keys = ("etag", "ETag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "modified", "created")
    return "|".join(str(found[key]) for key in keys if found.get(key) is not None)


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
