"""Is an output still what was written? `verify` reads every file and compares it with the ledger.

Found are files that are gone, cut short, changed by a single bit, or in each other's place; files that should not be
there; and damage of the ledger itself, by the hash of all its lines in the manifest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bigbia.errors import InputError, RunError
from bigbia.graph.journal import Written
from bigbia.io.durable import file_digest, intact
from bigbia.io.places import Place
from bigbia.io.zarr_source import Layout, find_node
from bigbia.run.ledger import Total, all_intact, checked, entries_of, ledger_folder
from bigbia.run.partial import partial_of
from bigbia.run.publishing import Files, find_array, read_manifest


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written."""

    file: str
    what: str
    block: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass
class Verification:
    """What `verify` found."""

    path: Path
    root: str
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    damaged: list[Damage] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)  # blocks that the run did without

    @property
    def ok(self) -> bool:
        return not self.damaged

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.files} files, {self.bytes / 2**20:.1f} MiB read in {self.seconds:.1f} s"]
        lines += [f"  damaged: {one}" for one in self.damaged[:20]]
        if len(self.damaged) > 20:
            lines.append(f"  and {len(self.damaged) - 20} more")
        lines += [f"  missing since it was written: block {m['block']}: {m['error']}" for m in self.missing[:20]]
        lines.append(
            f"  intact, hash of all files {self.root[:16]}"
            if self.ok
            else f"  {len(self.damaged)} damaged: bigbia repair {self.path}"
        )
        return "\n".join(lines)


def verify(path: str | Path) -> Verification:
    """Read every file of an output and compare it with the hash that was taken when it was written.

    Parameters
    ----------
    path : an output of `bigbia.save` or `bigbia run`

    Returns
    -------
    Verification : `ok`, and `damaged`, the files that are not what was written

    Raises
    ------
    InputError : there is no output of bigbia
    RunError : it was never finished; its manifest is damaged

    Examples
    --------
    >>> bigbia.verify("nuclei.zarr").ok  # doctest: +SKIP
    True
    """
    path, start = Path(path), time.perf_counter()
    manifest = manifest_of(path)
    found = Verification(path, manifest["root"], missing=list(manifest["missing"]))
    plain = [Written(*one) for one in [*manifest["metadata"], *manifest["others"]]]
    for file in plain:
        _add(found, path, file, None, intact(path, file))
    have, arrays_damaged = _arrays(path, manifest)
    found.damaged += arrays_damaged
    listed: list[str] = sorted(manifest["ledger"])
    total = Total(Written(*one) for one in manifest["others"])
    for entry, fine in checked(entries_of(path, listed), lambda entry: all_intact(path, entry.files)):
        for file in entry.files:
            total.add(file)
            _add(found, path, file, entry.block, fine or intact(path, file))
            find_array(have, file.name)
    known = {damage.file for damage in found.damaged}
    for name, files in have.items():
        for key in files.lacking():
            if f"{name}/{key}" not in known:
                found.damaged.append(Damage(f"{name}/{key}", "the ledger has lost its line"))
    if total.root != manifest["root"] and found.ok:
        found.damaged.append(Damage(str(ledger_folder(path).relative_to(path)), "is not the ledger that was published"))
    found.seconds = time.perf_counter() - start
    return found


def manifest_of(path: Path) -> dict[str, Any]:
    """The manifest of a finished output, or why there is none."""
    manifest = read_manifest(path) if path.is_dir() else None
    if manifest is not None:
        return manifest
    if path.name.endswith(".partial") or (partial_of(path).is_dir() and not path.exists()):
        raise RunError(f"{path}: was never finished: run the same command again to go on (bigbia status {path})")
    if not path.exists():
        raise InputError(f"{path}: there is nothing")
    raise InputError(f"{path}: has no manifest: bigbia did not write it, or an older one did; nothing to compare with")


def _arrays(path: Path, manifest: dict[str, Any]) -> tuple[dict[str, Files], list[Damage]]:
    """The arrays by their metadata, as far as that can be read."""
    have: dict[str, Files] = {}
    damaged: list[Damage] = []
    for name, count in manifest["arrays"].items():
        try:
            node = find_node(Place(path / name))
            files = Files(Layout.of(node)) if node is not None else None
        except InputError:
            files = None
        if files is None or files.count != count:
            if all(Path(d.file).parent.as_posix() != name for d in damaged):
                damaged.append(Damage(name, "its metadata is not what was written"))
            continue
        have[name] = files
    return have, damaged


def _add(found: Verification, path: Path, file: Written, block: tuple[int, ...] | None, fine: bool) -> None:
    found.files += 1
    found.bytes += file.nbytes
    if not fine:
        found.damaged.append(Damage(file.name, _how(path, file), block))


def _how(path: Path, file: Written) -> str:
    place = path / file.name
    try:
        if not place.exists():
            return "is gone"
        if not place.is_file():
            return "is no file"
        size = place.stat().st_size
        if size != file.nbytes:
            return f"has {size} bytes, {file.nbytes} were written"
        return f"holds other bytes than were written (hash {file_digest(path, file.name)[:8]}, was {file.digest[:8]})"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
