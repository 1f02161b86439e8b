"""The end of a run: every file of the output is there and known, then the manifest, then the name.

_bigbia/manifest.json   format, fingerprint, root (one hash for all files), counts, metadata files, what is missing
_bigbia/ledger/         a line a block, for the steps that wrote voxels: the files with their hashes
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bigbia.errors import RunError
from bigbia.graph.journal import Written, digest
from bigbia.graph.scratch import PREFIX
from bigbia.graph.stages import Stage
from bigbia.io.durable import intact, storage_errors, written
from bigbia.io.zarr_source import Layout
from bigbia.run.contract import FORMAT, Run
from bigbia.run.ledger import (
    FOLDER,
    Entry,
    Lines,
    Total,
    all_intact,
    checked,
    entries_of,
    ledger_folder,
    results_of,
    root_of,
    write_json,
)
from bigbia.run.output import Output, layout_at
from bigbia.run.sessions import empty

MANIFEST = f"{FOLDER}/manifest.json"


def seal(run: Run, outputs: Sequence[Output], stages: Sequence[Stage], others: Sequence[Written]) -> dict[str, Any]:
    """Check that the output is whole, put its metadata in place and write the manifest, which is returned.

    stages : those that wrote voxels
    others : files beside the voxels: tables, the pipeline
    """
    have = {name: Files(layout_at(run.root / name)) for output in outputs for name in output.names()}
    kept: list[str] = list(run.carried)
    for stage in stages:
        for step in stage.steps:
            if step in stage.block_steps:
                lines = run.lines(stage, step)
                _compact(lines)
                kept.append(lines.path.name)
    total = Total(others)
    for entry, fine in checked(entries_of(run.root, kept), lambda entry: _is_there(run, entry)):
        for file in entry.files:
            total.add(file)
            if fine:
                find_array(have, file.name)
    lacking = [f"{name}/{key}" for name, files in have.items() for key in files.lacking()]
    if lacking:
        raise RunError(
            f"{run.root}: {len(lacking)} files are missing or damaged, first {lacking[0]}; nothing was published: run "
            "again to write them again"
        )
    metadata = [*run.release(), *_array_documents(run.root, have), *_ledgers(run.root, kept)]
    return {
        "format": FORMAT,
        "fingerprint": run.record["fingerprint"],
        "run": run.record["id"],
        "root": total.root,
        "files": sum(files.count for files in have.values()) + len(others),
        "bytes": total.nbytes,
        "arrays": {name: files.count for name, files in have.items()},
        "ledger": sorted(kept),
        "others": [list(file) for file in others],
        "metadata": [list(file) for file in metadata],
        "missing": run.missing,
        "made": time.time(),
    }


def sign(root: Path, manifest: Mapping[str, Any], more: Iterable[Written] = ()) -> None:
    """Write the manifest, with the files about the run that came after it was made, and a hash of itself."""
    write_json(root / MANIFEST, signed(manifest, more))


def signed(manifest: Mapping[str, Any], more: Iterable[Written] = ()) -> dict[str, Any]:
    """The manifest as it is written."""
    found = {**manifest, "metadata": [*manifest["metadata"], *map(list, more)]}
    return {**found, "hash": _hash(found)}


def _hash(manifest: Mapping[str, Any]) -> str:
    text = json.dumps({k: v for k, v in manifest.items() if k != "hash"}, sort_keys=True)
    return digest(MANIFEST, [text.encode()])


def sealed(run: Run) -> bool:
    """Whether an earlier session came as far as the manifest, so that all that is left is to clear up and to publish.

    A run that was cleared up is not gone on with otherwise: what its stages left is gone. Damaged since, it starts anew.
    """
    if not (run.root / MANIFEST).exists():
        return False
    try:
        manifest = read_manifest(run.root) or {}
        about = [Written(*file) for file in manifest["metadata"] if file[0] != f"{FOLDER}/run.json"]
        whole = root_of(results_of(run.root, manifest)) == manifest["root"]
        every = chain(about, results_of(run.root, manifest))
        whole = whole and all(fine for _, fine in checked(every, lambda file: intact(run.root, file)))
    except RunError:
        whole = False
    if not whole:
        empty(run.root)
        write_json(run.root / FOLDER / "run.json", run.record)
        return False
    sign(run.root, {**manifest, "metadata": [list(file) for file in about]}, [run.ended()])
    clear(run, manifest)
    return True


def clear(run: Run, manifest: Mapping[str, Any]) -> None:
    """Remove what only a run under way needs; once the manifest is written, for without this no run goes on."""
    for path in ledger_folder(run.root).glob("*"):
        if path.name not in manifest["ledger"]:
            path.unlink()
    for folder in (run.home, run.root / FOLDER / "held"):
        shutil.rmtree(folder, ignore_errors=True)


def _compact(lines: Lines) -> None:
    """One line a block, in the order of the blocks, without what the stages left in scratch."""
    lines.close()
    temporary = lines.path.with_name(lines.path.name + ".new.tmp")
    with storage_errors(lines.path):
        with open(temporary, "wb") as file:
            for entry in lines.entries():
                files = tuple(f for f in entry.files if not f.name.startswith(PREFIX))
                file.write(replace(entry, files=files).line())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, lines.path)


def _is_there(run: Run, entry: Entry) -> bool:
    """A look at the names and sizes; with full integrity at the bytes."""
    if run.full:
        return all_intact(run.root, entry.files)
    try:
        return all(os.stat(run.root / file.name).st_size == file.nbytes for file in entry.files)
    except OSError:
        return False


class Files:
    """Which files of an array there are: a byte a file."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.seen = np.zeros(layout.grid, bool)
        self.count = int(self.seen.size)

    def add(self, key: str) -> None:
        if self.layout.is_key(key):
            self.seen[tuple(map(int, key[len(self.layout.prefix) :].split(self.layout.separator)))] = True

    def lacking(self) -> Iterator[str]:
        for index in zip(*np.nonzero(~self.seen)):
            yield self.layout.key(tuple(map(int, index)))


def find_array(have: Mapping[str, Files], name: str) -> None:
    """Note a file of one of the arrays."""
    head = name
    while "/" in head:
        head = head.rpartition("/")[0]
        if head in have:
            have[head].add(name[len(head) + 1 :])
            return


def _array_documents(root: Path, arrays: Iterable[str]) -> Iterator[Written]:
    for array in arrays:
        for document in ("zarr.json", ".zarray", ".zattrs"):
            if (root / array / document).exists():
                yield written(root, f"{array}/{document}")


def _ledgers(root: Path, names: Iterable[str]) -> Iterator[Written]:
    """The ledgers themselves: the hash of all files does not say in which of them a line stands."""
    for name in names:
        yield written(root, (ledger_folder(root) / name).relative_to(root).as_posix())


def read_manifest(root: Path) -> dict[str, Any] | None:
    """The manifest of an output; None where bigbia did not write it under its run contract."""
    try:
        found = json.loads((root / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError, OSError) as error:
        raise RunError(f"{root / MANIFEST}: is damaged: {error}; run the pipeline again") from None
    if not isinstance(found, dict) or found.get("hash") != _hash(found):
        raise RunError(f"{root / MANIFEST}: is damaged: it is not what was written; run the pipeline again")
    if found.get("format") != FORMAT:
        raise RunError(f"{root / MANIFEST}: is of format {found.get('format')}, this bigbia reads {FORMAT}")
    return found
