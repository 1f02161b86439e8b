"""The tables of a batch joined: the rows of every image, in the order of the images, with columns that say which.

The rows of an image are those of its own table, which is a file of its own output. They are at hand while the batch runs,
up to a bound; the others are read again from these files.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bigbia.errors import BigbiaError, BigbiaWarning
from bigbia.io.tables import SUFFIXES, read_table, write_table

HELD = 256 << 20  # bytes of rows that are kept at hand
TOGETHER = 200  # images whose rows are joined at once
OWN = ("image", "inputs")  # what the metadata of a table say of its one image
COLUMNS = ("image", "well", "field")


class Joined:
    """The joined tables of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frames: dict[tuple[str, str], Any] = {}  # (output, table) -> rows
        self.bytes = 0

    def __enter__(self) -> Joined:
        return self

    def __exit__(self, *_: object) -> None:
        self.frames.clear()

    def add(self, image: Any, tables: dict[str, list[Any]]) -> None:
        """Keep the rows of an image at hand, if there is room."""
        import pandas

        for name, frames in tables.items():
            frame = frames[0] if len(frames) == 1 else pandas.concat(frames, ignore_index=True)
            size = int(frame.memory_usage(index=False).sum())
            if self.bytes + size <= HELD:
                self.bytes += size
                self.frames[image.output, name] = frame

    def write(self, images: Sequence[Any]) -> dict[str, int]:
        """Write `tables/NAME` of all images. The rows of each."""
        found: dict[str, int] = {}
        for path in _files(images):
            rows = self._write(path, images)
            if rows is not None:
                found[path] = rows
        return found

    def _write(self, file: str, images: Sequence[Any]) -> int | None:
        name = file.rpartition(".")[0]
        first = next((image for image in images if (Path(image.output) / "tables" / file).exists()), None)
        if first is None:
            return None
        odd: list[str] = []
        about = read_table(Path(first.output) / "tables" / file).attrs
        attributes = {key: value for key, value in about.items() if key not in OWN}
        write_table(self._joined(name, file, images, odd), self.folder / "tables" / file, metadata=attributes)
        if odd:
            warnings.warn(
                f"{self.folder / 'tables' / file}: {len(odd)} images have other columns than {first.name} and are left "
                f"out, first {odd[0]}: their own tables have their rows",
                BigbiaWarning,
                stacklevel=3,
            )
        return sum(image.rows.get(name, 0) for image in images if image.name not in odd)

    def _joined(self, name: str, file: str, images: Sequence[Any], odd: list[str]) -> Iterator[Any]:
        """The rows of all images, many images at a time."""
        columns: list[str] | None = None
        held: list[tuple[Any, Any]] = []
        for image in images:
            frame = self.frames.get((image.output, name))
            frame = self._read(image, file) if frame is None else frame
            if frame is None:
                continue
            here = list(map(str, frame.columns))
            columns = columns or here
            image.rows[name] = len(frame)
            if here != columns:
                odd.append(image.name)
                continue
            held.append((image, frame))
            if len(held) == TOGETHER:
                yield _with_columns(held)
                held = []
        if held:
            yield _with_columns(held)

    def _read(self, image: Any, file: str) -> Any:
        path = Path(image.output) / "tables" / file
        try:
            return read_table(path) if path.exists() else None
        except BigbiaError as error:
            warnings.warn(f"{error}: left out of the joined table", BigbiaWarning, stacklevel=4)
            return None


def _with_columns(held: Sequence[tuple[Any, Any]]) -> Any:
    """The rows of some images with what says of which one they are."""
    import numpy as np
    import pandas

    counts = [len(frame) for _, frame in held]
    words = {word for image, _ in held for word in image.columns}
    told = {
        word: pandas.Series(np.repeat([str(image.columns.get(word, "")) for image, _ in held], counts), dtype="str")
        for word in COLUMNS
        if word in words
    }
    rows = pandas.concat([frame for _, frame in held], ignore_index=True)
    return pandas.concat([pandas.DataFrame(told, index=rows.index), rows], axis=1)


def _files(images: Sequence[Any]) -> list[str]:
    """The names of the tables that any image has."""
    found: dict[str, None] = {}
    for image in images:
        folder = Path(image.output) / "tables"
        if folder.is_dir():
            found |= dict.fromkeys(sorted(p.name for p in folder.iterdir() if p.suffix in SUFFIXES))
    return list(found)
