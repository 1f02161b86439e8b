"""The first bytes of a file, by which a format is told."""

from __future__ import annotations

from bigbia.io.places import Place, storage_errors


def head(place: Place, count: int) -> bytes:
    """The first bytes of a file, fewer where it is shorter."""
    with storage_errors(place.url):
        if place.local:
            with open(place.url, "rb") as file:
                return file.read(count)
        fs, path = place.remote
        return bytes(fs.cat_file(path, start=0, end=count)[:count])
