"""Damage: what can happen to a file, where it can happen, and whether somebody notices.

A case is (layout, place, damage, target). Of an input, reading it must be refused, or `verify` must find it; in a run
that was stopped, the run must go on to the same bytes; of an output, `verify` must name that file and no other.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faults
import numpy as np
from faults import OURS, Server

LAYOUTS = ("plain", "sharded", "v2")
# What nobody can see, and why: see docs/design/007-faults.md.
UNSEEN: set[tuple[str, str, str, str]] = set()
CUT = 0.86  # of the operations of a run, after which the template of a stopped run was killed


# ---- what happens --------------------------------------------------------------------------------------------------
def flip(path: Path, bits: int, lot: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for place in lot.sample(range(8 * len(data)), min(bits, 8 * len(data))):
        data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


def truncate(path: Path, lot: random.Random) -> None:
    os.truncate(path, lot.randrange(1, max(2, path.stat().st_size)))


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("somebody's")


def swap(path: Path, other: Path) -> None:
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(mine)


DAMAGES: dict[str, Callable[[Path, Path | None, random.Random], Any]] = {
    "1 bit flipped": lambda path, other, lot: flip(path, 1, lot),
    "8 bits flipped": lambda path, other, lot: flip(path, 8, lot),
    "truncated": lambda path, other, lot: truncate(path, lot),
    "0 bytes": lambda path, other, lot: os.truncate(path, 0),
    "deleted": lambda path, other, lot: path.unlink(),
    "zeroed": lambda path, other, lot: path.write_bytes(bytes(path.stat().st_size)),
    "swapped with another": lambda path, other, lot: swap(path, other) if other else None,
    "a folder in its place": lambda path, other, lot: as_folder(path),
    "no permission": lambda path, other, lot: path.chmod(0),
    "no JSON": lambda path, other, lot: path.write_bytes(b'{"a": [1, 2'),
    "other JSON": lambda path, other, lot: path.write_bytes(b"[1, 2]\n"),
    "stale temporary files": lambda path, other, lot: stale(path),
}
DOCUMENTS = ("no JSON", "other JSON")


def stale(path: Path) -> None:
    """What killed writers leave beside a file."""
    for name in (f"{path.name}.0123456789ab.tmp", f".{path.name}.01234567.partial"):
        path.with_name(name).write_bytes(b"half of a fi")


# ---- where ---------------------------------------------------------------------------------------------------------
def files_of(folder: Path, pattern: str) -> list[Path]:
    return sorted(p for p in folder.glob(pattern) if p.is_file())


def chunks(folder: Path) -> list[Path]:
    """Files of voxels of the full resolution."""
    arrays = [p.parent for name in ("zarr.json", ".zarray") for p in folder.rglob(name) if p.parent.name == "0"]
    found = [p for a in arrays for p in sorted(a.rglob("*")) if p.is_file() and OURS not in p.parts]
    return [p for p in found if p.name not in ("zarr.json", ".zarray", ".zattrs") and not p.name.endswith(".tmp")]


def arrays_metadata(folder: Path) -> list[Path]:
    found = [*folder.rglob("zarr.json"), *folder.rglob(".zarray")]
    return sorted(p for p in found if p.parent.name.isdigit() and OURS not in p.parts)


IN_PARTIAL: dict[str, Callable[[Path], list[Path]]] = {
    "chunk": chunks,
    "scratch record": lambda root: files_of(root, f"{OURS}/scratch/*/*/*"),
    "ledger": lambda root: files_of(root, f"{OURS}/ledger/*.jsonl"),
    "list of records": lambda root: files_of(root, f"{OURS}/ledger/*.records"),
    "run.json": lambda root: [root / OURS / "run.json"],
    "held metadata": lambda root: [p for p in sorted((root / OURS / "held").rglob("*")) if p.is_file()],
    "array metadata": arrays_metadata,
}
PUBLISHED: dict[str, Callable[[Path], list[Path]]] = {
    "chunk": chunks,
    "array metadata": arrays_metadata,
    "group metadata": lambda root: [p for p in (root / "zarr.json", root / ".zattrs", root / ".zgroup") if p.exists()],
    "ledger": lambda root: files_of(root, f"{OURS}/ledger/*.jsonl"),
    "manifest": lambda root: [root / OURS / "manifest.json"],
    "run.json": lambda root: [root / OURS / "run.json"],
    "table": lambda root: files_of(root, "tables/*"),
}
INPUT: dict[str, Callable[[Path], list[Path]]] = {"chunk": chunks, "array metadata": arrays_metadata}
PLACES = {"input": INPUT, "partial": IN_PARTIAL, "published": PUBLISHED}
EXACT = ("chunk", "table", "group metadata", "run.json")
JSON_FILES = ("ledger", "run.json", "held metadata", "array metadata", "group metadata", "manifest")


def cases(layouts: tuple[str, ...] = LAYOUTS) -> Iterator[tuple[str, str, str, str]]:
    for layout in layouts:
        for place, targets in PLACES.items():
            for target in targets:
                for damage in DAMAGES:
                    if damage in DOCUMENTS and target not in JSON_FILES:
                        continue
                    if damage == "stale temporary files" and place != "partial":
                        continue
                    yield layout, place, damage, target


@dataclass
class Found:
    """What became of a case: "named" (refused, found by `verify`), "same" (the same bytes), "verify", or "SILENT"."""

    case: tuple[str, str, str, str]
    seed: int
    what: str
    text: str = ""

    @property
    def fine(self) -> bool:
        return self.what in ("named", "same", "verify", "nothing to damage")


class Matrix:
    """Templates of a layout, which the cases damage copies of."""

    def __init__(self, server: Server, folder: Path, layout: str, size: int = 32, job: str = "label") -> None:
        self.server, self.layout, self.folder = server, layout, folder
        self.source = faults.make_source(folder / "in.zarr", size, 8, layout)
        self.request: dict[str, Any] = {"job": job, "source": self.source, "block": 16, "chunks": 8, "layout": layout}
        self.reference = folder / "reference" / "out.zarr"
        self.reference.parent.mkdir()
        disk = {"root": str(self.reference.parent)}
        found = server.run(**self.request, output=self.reference, disk=disk)
        assert found["error"] is None, found
        self.stopped = folder / "stopped" / "out.zarr"
        self.stopped.parent.mkdir()
        disk = {"root": str(self.stopped.parent), "kill": int(CUT * found["operations"])}
        found = server.run(**self.request, output=self.stopped, disk=disk)
        assert found["signal"], found
        partial = faults.partial_of(self.stopped)
        for target, among in IN_PARTIAL.items():
            assert among(partial), f"the stopped run has no {target}"

    def case(self, place: str, damage: str, target: str, seed: int) -> Found:
        here = self.folder / "case"
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        lot, name = random.Random(seed), (self.layout, place, damage, target)
        what = {"input": self._input, "partial": self._partial, "published": self._published}[place]
        return Found(name, seed, *what(here, damage, target, lot))

    def _damage(self, folder: Path, place: str, damage: str, target: str, lot: random.Random) -> list[Path] | None:
        among = PLACES[place][target](folder)
        if not among or (damage.startswith("swapped") and len(among) < 2):
            return None
        path = lot.choice(among)
        other = lot.choice([p for p in among if p != path]) if len(among) > 1 else None
        if other and damage.startswith("swapped") and path.read_bytes() == other.read_bytes():
            return None
        DAMAGES[damage](path, other, lot)
        return [path, other] if damage.startswith("swapped") and other else [path]

    def _input(self, here: Path, damage: str, target: str, lot: random.Random) -> tuple[str, str]:
        from bigbia.errors import BigbiaError
        from bigbia.run.verify import verify

        source, output = here / "in.zarr", here / "out.zarr"
        shutil.copytree(self.source, source)
        if self._damage(source, "input", damage, target, lot) is None:
            return "nothing to damage", ""
        request = {**self.request, "job": "filter", "source": source, "drop_root": True}
        found = self.server.run(**request, output=output)
        if found["error"]:
            return ("named" if found["named"] else "UNNAMED"), found["text"]
        reference = self.folder / "filtered" / "out.zarr"
        if not reference.exists():
            reference.parent.mkdir()
            assert self.server.run(**{**request, "source": self.source}, output=reference)["error"] is None
        if not faults.differences(output, reference):
            return "same", ""
        try:
            return ("SILENT" if verify(source).ok else "verify"), f"{faults.voxels_lost(output, reference)} voxels"
        except BigbiaError as error:
            return "verify", str(error)

    def _partial(self, here: Path, damage: str, target: str, lot: random.Random) -> tuple[str, str]:
        output = here / "out.zarr"
        partial = faults.partial_of(output)
        shutil.copytree(faults.partial_of(self.stopped), partial)
        if self._damage(partial, "partial", damage, target, lot) is None:
            return "nothing to damage", ""
        found = self.server.run(**self.request, output=output, drop_root=True)
        if found["error"] or found["signal"]:
            return "STUCK" if found.get("named") else "UNNAMED", f"{found['error']}: {found.get('text')}"
        different = faults.differences(output, self.reference)
        return ("SILENT", str(different[:4])) if different else ("same", "")

    def _published(self, here: Path, damage: str, target: str, lot: random.Random) -> tuple[str, str]:
        from bigbia.errors import BigbiaError
        from bigbia.run.verify import verify

        output = here / "out.zarr"
        shutil.copytree(self.reference, output)
        paths = self._damage(output, "published", damage, target, lot)
        if paths is None or (damage == "no permission" and os.geteuid() == 0):
            return "nothing to damage", ""
        try:
            found = verify(output)
        except BigbiaError as error:
            return "named", str(error)
        names = {p.relative_to(output).as_posix() for p in paths}
        told = {d.file for d in found.damaged}
        if found.ok:
            return "SILENT", ""
        # A damaged ledger, or metadata that say what files there are, take with them what they listed.
        exact = told == names if target in EXACT else names <= told
        return ("named", "") if exact else ("INEXACT", f"{sorted(told)[:5]} for {sorted(names)}")


# ---- what others wrote ---------------------------------------------------------------------------------------------
FOREIGN = ("raw", "zstd", "gzip", "zstd and crc32c", "blosc (Zarr 2)", "shards, zstd")
AT_FOREIGN = ("1 bit flipped", "8 bits flipped", "truncated", "0 bytes", "deleted", "zeroed", "swapped with another")


def make_foreign(path: Path, codecs: str) -> np.ndarray:
    """An array that zarr itself wrote."""
    import zarr
    from zarr.codecs import Crc32cCodec, GzipCodec, ZstdCodec

    image = np.random.default_rng(5).integers(1, 4000, (32, 32, 32), dtype="u2")
    image[:, :16] //= 256  # something to compress
    words: dict[str, Any] = {
        "raw": {"compressors": None},
        "zstd": {},
        "gzip": {"compressors": GzipCodec()},
        "zstd and crc32c": {"compressors": [ZstdCodec(), Crc32cCodec()]},
        "blosc (Zarr 2)": {"zarr_format": 2, "compressors": numcodecs_blosc()},
        "shards, zstd": {"shards": (16, 16, 16)},
    }[codecs]
    chunks = (8, 8, 8) if "shards" in words else (16, 16, 16)
    zarr.create_array(path, shape=image.shape, dtype="u2", chunks=chunks, **words)[...] = image
    return image


def numcodecs_blosc() -> Any:
    import numcodecs

    return numcodecs.Blosc()


def foreign(folder: Path, codecs: str, damage: str, seed: int) -> str:
    """Reading a damaged array of others: "named", "same", "UNNAMED", or "UNSEEN": wrong voxels."""
    import bigbia
    from bigbia.errors import BigbiaError

    shutil.rmtree(folder, ignore_errors=True)
    image = make_foreign(folder, codecs)
    lot = random.Random(seed)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in ("zarr.json", ".zarray", ".zattrs"))
    path, other = lot.sample(files, 2)
    DAMAGES[damage](path, other, lot)
    try:
        found = np.asarray(bigbia.open(folder, axes="zyx", on_missing="error"))
    except BigbiaError:
        return "named"
    except Exception:
        return "UNNAMED"
    return "same" if (found == image).all() else "UNSEEN"
