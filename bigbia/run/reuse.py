"""What an earlier output has that a new run need not make again.

An output that is replaced (`overwrite=True`), or one that is named, is looked through: images and tables that are made
in the same way of the same input, by the same versions, are taken over as files, linked and not copied; where some
files of one are damaged, only their blocks are made again (`bigbia repair` is no more than that); and what the stages
of the earlier run kept (`bigbia.keep`) is there for the stages that are the same. Every file is read and compared with
its hash first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bigbia import config
from bigbia.errors import BigbiaError
from bigbia.graph.journal import Written
from bigbia.graph.scratch import LOCK
from bigbia.graph.stages import Stage
from bigbia.io import durable
from bigbia.io.durable import intact
from bigbia.run.contract import Run
from bigbia.run.ledger import FOLDER, Entry, Lines, all_intact, checked, entries_at, ledger_folder, read_json
from bigbia.run.output import Output, layout_at
from bigbia.run.publishing import Files, find_array, read_manifest
from bigbia.run.work import Work

KEPT = f"{FOLDER}/kept"
FREE = 16 << 20  # bytes that are kept of stages in any case, with "auto"
SHARE = 0.1  # of the output's bytes that are kept of stages, with "auto"


@dataclass
class Earlier:
    """An output that was published before."""

    path: Path
    manifest: dict[str, Any]
    record: dict[str, Any]
    outputs: set[str] = field(default_factory=set)  # places that are taken over whole
    tables: dict[str, Written] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path, parts: Mapping[str, Any]) -> Earlier | None:
        """The output at a path, if anything of it could be used."""
        try:
            manifest = read_manifest(path)
            record = read_json(path / FOLDER / "run.json")
        except BigbiaError:
            return None
        if manifest is None or record is None or record["parts"]["versions"] != parts["versions"]:
            return None
        if record["parts"]["output"].get("whole"):  # a small image of a batch, made in one piece
            return None
        return cls(path, manifest, record)

    @property
    def parts(self) -> dict[str, Any]:
        return self.record["parts"]

    def table(self, name: str) -> Written | None:
        """A table, if it is intact."""
        for one in self.manifest["others"]:
            file = Written(*one)
            if file.name == f"tables/{name}.parquet" and intact(self.path, file):
                return file
        return None

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Ledger and entry of every block that was computed."""
        for name in self.manifest["ledger"]:
            for _, entry in entries_at(ledger_folder(self.path) / name):
                if not entry.missing:
                    yield name, entry

    def same(self, place: str, parts: Mapping[str, Any]) -> bool:
        """Whether an image is made as it was made."""
        mine, other = (p["output"].get(place or "image") for p in (self.parts, parts))
        return mine is not None and mine == other


def take_over(run: Run, work: Work, earlier: Earlier) -> Work:
    """Link into a run what it need not make; the work that is left."""
    alike = [o for o in work.outputs if earlier.same(o.place, run.parts)]
    _link_whole(run, earlier, alike)
    tables = {
        name: token
        for name, token in run.parts["output"]["tables"].items()
        if earlier.parts["output"]["tables"].get(name) == token
        and earlier.parts["output"]["table_format"] == run.parts["output"]["table_format"]
    }
    for one in earlier.manifest["others"]:
        file = Written(*one)
        name = Path(file.name).stem
        if Path(file.name).parent.name == "tables" and name in tables and intact(earlier.path, file):
            link(earlier.path, run.root, file.name)
            earlier.tables[name] = file
    return Work(
        [o for o in work.outputs if o.place not in earlier.outputs],
        {name: parts for name, parts in work.tables.items() if name not in earlier.tables},
    )


def _link_whole(run: Run, earlier: Earlier, alike: list[Output]) -> None:
    """Take over the images of which every file is intact."""
    have = {name: Files(layout_at(run.root / name)) for o in alike for name in o.names()}
    for entry, fine in checked(_those_of(earlier, have), lambda entry: all_intact(earlier.path, entry.files)):
        for file in entry.files:
            if fine or intact(earlier.path, file):
                find_array(have, file.name)
    whole = [o for o in alike if not any(True for name in o.names() for _ in have[name].lacking())]
    earlier.outputs = {o.place for o in whole}
    lines = Lines(ledger_folder(run.root) / "taken-over.jsonl", ())
    lines.path.unlink(missing_ok=True)
    for entry in _those_of(earlier, [name for o in whole for name in o.names()]):
        for file in entry.files:
            link(earlier.path, run.root, file.name)
        lines.add(entry)
    lines.close()
    if lines.path.exists():
        run.carried.append(lines.path.name)


def _those_of(earlier: Earlier, names: Iterable[str]) -> Iterator[Entry]:
    """What an earlier output's entries say of some arrays."""
    beginnings = tuple(f"{name}/" for name in names)
    for _, entry in earlier.entries() if beginnings else ():
        files = tuple(f for f in entry.files if f.name.startswith(beginnings))
        if files:
            yield replace(entry, files=files)


def adopt(run: Run, work: Work, earlier: Earlier) -> None:
    """Link the blocks that are intact of images of which others are not, and what stages kept."""
    for stage in work.every_stage():
        kept = earlier.path / KEPT / stage.token
        listing = kept.with_name(f"{stage.token}.records")
        if listing.exists() and run.owns(stage) and not stage.folder.path.exists():
            _link_records(kept, listing, stage.folder.path, run.listing(stage))
    for stage in work.writers:
        if not stage.publishes or not all(earlier.same(place, run.parts) for place in stage.publishes):
            continue
        if any(rider for rider in getattr(stage, "riders", ())):
            continue  # what they need of a block was not kept
        (step,) = stage.block_steps
        lines = run.lines(stage, step)
        if lines.path.exists() or _grid(earlier.parts, stage) is None:
            continue
        _adopt_blocks(run, stage, lines, earlier)


def _grid(parts: Mapping[str, Any], stage: Stage) -> list | None:
    """The blocks of a stage, if the earlier run had the same."""
    mine = [list(map(max, stage.grid.chunks)), len(stage.grid)]
    return mine if mine in parts["output"]["blocks"] else None


def _adopt_blocks(run: Run, stage: Any, lines: Lines, earlier: Earlier) -> None:
    wanted = stage.targets
    for which, entry in earlier.entries():
        if not which.startswith(f"{stage.kind}-") and not which.startswith("taken-over"):
            continue
        files = tuple(f for f in entry.files if f.name.startswith(wanted))
        here = {name for f in files for name in wanted if f.name.startswith(name)}
        if here != set(wanted) or not all_intact(earlier.path, files):
            continue
        for file in files:
            link(earlier.path, run.root, file.name)
        lines.add(replace(entry, files=files))
    lines.close()


def link(old: Path, new: Path, name: str) -> None:
    target = new / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        link_file(old / name, target)


def link_file(old: Any, new: Any) -> None:
    """The same file under another name; a copy where the file system has no such thing."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copy2(old, new)


def keep(run: Run, work: Work, nbytes: int) -> None:
    """Put what the stages have found beside the output, for the next run that needs it, as far as `bigbia.keep` says."""
    how = config.keep()
    left = float("inf") if how == "all" else 0.0 if how == "none" else max(FREE, SHARE * nbytes)
    found = []
    for stage in work.every_stage():
        if stage.publishes or not run.owns(stage) or not stage.complete:
            continue
        size = sum(stage.folder.file(name).stat().st_size for name in stage.folder.records())
        found.append((size, stage.token, stage))
    for size, token, stage in sorted(found, key=lambda one: one[:2]):
        left -= size
        if left < 0:
            return
        target = run.root / KEPT / token
        shutil.rmtree(target, ignore_errors=True)
        _link_records(stage.folder.path, run.listing(stage), target, target.with_name(f"{token}.records"))


def keep_on(run: Run, work: Work, earlier: Earlier) -> None:
    """Keep what the earlier output kept of stages that this one would have too."""
    if config.keep() == "none":
        return
    for stage in work.every_stage():
        old, new = earlier.path / KEPT / stage.token, run.root / KEPT / stage.token
        listing = old.with_name(f"{stage.token}.records")
        if listing.exists() and not new.exists():
            _link_records(old, listing, new, new.with_name(listing.name))


def _link_records(old: Path, listing: Path, new: Path, new_listing: Path) -> None:
    """What a finished stage left, and the list of it, in another place too."""
    shutil.copytree(old, new, copy_function=link_file, ignore=shutil.ignore_patterns(f"*{LOCK}"))
    durable.replace(new_listing, listing.read_bytes())
