"""One label image of a run as an output by itself: with a manifest, a ledger and the record of the run in its folder.

The hash of a file is of its name too, so every file is compared with the hash it had in the run, and hashed anew under
its name in the label image.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from bigbia import config
from bigbia.errors import RunError
from bigbia.graph.journal import Written
from bigbia.io.durable import intact, put, storage_errors, written
from bigbia.run.contract import Run
from bigbia.run.ledger import FOLDER, Entry, Total, entries_at, ledger_folder
from bigbia.run.publishing import sign

RECORD = f"{FOLDER}/run.json"


def outfit(run: Run, manifest: Mapping[str, Any], place: str, image: str) -> None:
    """Give the label image at `place` of a finished run what an output has.

    manifest : of the run
    image : the name of the image into which it goes, for its record

    Raises RunError where a file is not what was written.
    """
    folder = run.root / place
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    total, ledgers = Total(), []
    for name in manifest["ledger"]:
        if _copy_ledger(run.root, folder, place, name, total):
            ledgers.append(written(folder, f"{FOLDER}/ledger/{name}"))
    others = []
    for name, *_ in manifest["others"]:
        if "/" not in name:  # the pipeline; tables have a place of their own
            others.append(put(folder, name, (run.root / name).read_bytes()))
            total.add(others[-1])
    metadata = [*ledgers, *_metadata(run.root, folder, place, manifest), *_about(run, folder, manifest, image)]
    arrays = {n.removeprefix(f"{place}/"): c for n, c in manifest["arrays"].items() if n.startswith(f"{place}/")}
    found_all = {
        **{key: manifest[key] for key in ("format", "fingerprint", "run", "missing", "made")},
        "root": total.root,
        "files": sum(arrays.values()) + len(others),
        "bytes": total.nbytes,
        "arrays": arrays,
        "ledger": sorted(Path(file.name).name for file in ledgers),
        "others": [list(file) for file in others],
        "metadata": [list(file) for file in metadata],
    }
    sign(folder, found_all)


def _copy_ledger(root: Path, folder: Path, place: str, ledger: str, total: Total) -> bool:
    """Write what a ledger says of the label image, line by line; whether it says anything."""
    path = ledger_folder(folder) / ledger
    path.parent.mkdir(parents=True, exist_ok=True)
    some = False
    with storage_errors(path), open(path, "wb") as file:
        for entry in _entries(root, folder, place, ledger):
            some = True
            file.write(entry.line())
            for one in entry.files:
                total.add(one)
        file.flush()
        os.fsync(file.fileno())
    if not some:
        path.unlink()
    return some


def _entries(root: Path, folder: Path, place: str, ledger: str) -> Iterator[Entry]:
    """What a ledger says of the label image, its files by their names in it."""
    entries = (entry for _, entry in entries_at(ledger_folder(root) / ledger))
    mine = (replace(e, files=tuple(f for f in e.files if f.name.startswith(f"{place}/"))) for e in entries)
    with ThreadPoolExecutor(config.threads()) as pool:
        some = (e for e in mine if e.files)
        while batch := list(islice(some, 64 * config.threads())):
            yield from pool.map(lambda e: replace(e, files=_renamed_all(root, folder, place, e.files)), batch)


def _renamed_all(root: Path, folder: Path, place: str, files: Iterable[Written]) -> tuple[Written, ...]:
    return tuple(_renamed(root, folder, place, file) for file in files)


def _renamed(root: Path, folder: Path, place: str, file: Written) -> Written:
    if not intact(root, file):
        raise RunError(f"{root / file.name}: is not what was written any more: run again to write it again")
    return written(folder, file.name.removeprefix(f"{place}/"))


def _metadata(root: Path, folder: Path, place: str, manifest: Mapping[str, Any]) -> Iterator[Written]:
    for one in manifest["metadata"]:
        if one[0].startswith(f"{place}/"):
            yield _renamed(root, folder, place, Written(*one))


def _about(run: Run, folder: Path, manifest: Mapping[str, Any], image: str) -> Iterator[Written]:
    """The record of the run, where it comes from, its report."""
    for name, *_ in manifest["metadata"]:
        if not name.startswith(f"{FOLDER}/") or name.startswith(f"{FOLDER}/ledger/"):
            continue
        data = (run.root / name).read_bytes()
        if name == RECORD:
            # It was not made by a run to its own place: without an origin, nobody repeats one there.
            record = {**json.loads(data), "into": image}
            record["origin"] = {}
            data = json.dumps(record, indent=1, default=str).encode() + b"\n"
        yield put(folder, name, data)
