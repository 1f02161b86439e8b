"""Label images and tables written into the image they were made from: `<image>/labels/NAME`, `<image>/tables/NAME`.

    <image>.into.partial/              beside the image: a run like any other (run/contract.py)
      labels/NAME/                     a whole label image, with a `_bigbia/` and a manifest of its own
      _bigbia/into.json                written when all that is there: from now on it is only moved
    <image>/labels/NAME/               renamed from there
    <image>/labels/zarr.json           the list of names (0.4: .zattrs), replaced last

Nothing else of the image is touched. Each step of moving can be repeated, so one that was stopped is finished by the
next run to the same image, whatever that one is to do.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bigbia.errors import BigbiaWarning, InputError, ParameterError, RunError, StorageError
from bigbia.io import durable
from bigbia.io.durable import storage_errors, sync_folder, sync_tree
from bigbia.run.contract import Run
from bigbia.run.fingerprint import fingerprint, has_live
from bigbia.run.job import Job
from bigbia.run.ledger import FOLDER, read_json, write_json
from bigbia.run.like import Like
from bigbia.run.outfit import outfit
from bigbia.run.partial import exchange, holder_of, led, partial_of
from bigbia.run.publishing import MANIFEST, read_manifest, sealed, sign

INTO = ".into"  # ends the name under which a run into an image goes
MOVING = f"{FOLDER}/into.json"
VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5")


@dataclass(frozen=True)
class Target:
    """The image into which labels and tables go."""

    path: Path  # of its group
    version: str  # of what is written: "0.5" (Zarr 3) or "0.4" (Zarr 2)
    like: Like

    @property
    def run(self) -> Path:
        """The name of the run, which nothing ever has."""
        return self.path.with_name(self.path.name + INTO)


def target_of(path: str | os.PathLike[str]) -> Target:
    """The image at a path, as one that labels can be written into.

    Raises
    ------
    InputError : no OME-Zarr image, one that is not in a local folder, a level of one
    StorageError : its folder cannot be written to
    """
    from bigbia.io.finding import find
    from bigbia.io.zarr_source import find_node

    found = find(path, 0, None)
    place = found.place
    if not place.local:
        raise InputError(f"{path}: is not in a local folder: copy it, or write the labels to a place of their own")
    if found.image is None:
        what = "a single array" if find_node(place) is not None else f"a file ({found.kind})"
        raise InputError(
            f"{path}: is {what} and has no place for labels: name the folder of an OME-Zarr image, or write the labels to "
            "a place of their own"
        )
    image = found.image
    if image.version.split("-")[0] not in VERSIONS or not image.axes or found.axes is None:
        raise InputError(
            f"{path}: is OME-Zarr {image.version} with axes {' '.join(image.axes or ['unknown'])}: labels are written into "
            f"images of {VERSIONS[0]} to {VERSIONS[-1]} with axes among t c z y x: write them to a place of their own"
        )
    node = find_node(place)
    levels = [find_node(place / level) for level in image.paths]
    if node is None or any(level is None for level in levels):
        raise InputError(f"{path}: not all of its levels are there: restore them first")
    ome = node.attributes.get("ome", node.attributes)
    shapes = tuple(tuple(map(int, level.meta["shape"])) for level in levels if level is not None)
    folder = Path(place.url)
    for checked in (folder, folder.absolute().parent, *filter(Path.exists, (folder / "labels", folder / "tables"))):
        if not os.access(checked, os.W_OK):
            raise StorageError(f"{checked}: cannot be written to: write the labels to a place of their own")
    like = Like(tuple(image.axes), shapes, ome["multiscales"][0])
    return Target(folder, "0.5" if node.format == 3 else "0.4", like)


def fitted(job: Job, target: Target) -> Job:
    """The same job, its labels laid out as the image is. ParameterError where they do not lie over it."""
    outputs = []
    sizes = dict(zip(target.like.axes, target.like.shapes[0]))
    for output in job.outputs:
        if output.shown is not None:
            raise ParameterError(
                f"save: {output.place or 'image'}: only labels and tables are written into an image: leave it out, or "
                "give it a place of its own"
            )
        mine = dict(zip(map(str, output.array.dims), output.array.shape))
        wrong = [
            f"{a} {mine.get(a, 'none')}, the image has {sizes.get(a, 'none')}"
            for a in "tczyx"
            if mine.get(a) != sizes.get(a) and not (a == "c" and a not in mine)
        ]
        if wrong:
            raise ParameterError(
                f"save: {output.place}: does not lie over {target.path} ({'; '.join(wrong)}): label the whole image at full "
                "resolution, or write the labels to a place of their own"
            )
        outputs.append(replace(output, like=target.like, version=target.version, levels=len(target.like.shapes)))
    return replace(job, outputs=outputs, layout={**job.layout, "version": target.version})


def run_into(
    job: Job, target: Target, *, overwrite: bool = False, restart: bool = False, allow_missing: bool = False
) -> Path:
    """Run a job of labels and tables, and move what it makes into the image. See `run_job`."""
    from bigbia.run.save import carry_out
    from bigbia.run.sessions import running

    job, final = fitted(job, target), target.run
    before = finish(target)
    with job.described(target.path) as documents:
        parts = _parts(job, target)
        if before is not None and before["fingerprint"] == fingerprint(parts):
            return target.path
        _check_names(job, target, overwrite)
        prediction = job.admit(final).record
        resumable = not has_live(job.work.nodes)
        with running(
            final, parts, overwrite=False, restart=restart, resumable=resumable, allow_missing=allow_missing
        ) as run:
            if not sealed(run):
                run.hold(documents)
                run.prediction = prediction
                carry_out(run, job, None)
            _get_ready(run, job, target)
            move(run.root, target)
    _tell_of_lists(target)
    return target.path


def _parts(job: Job, target: Target) -> dict[str, Any]:
    return {**job.fingerprint(), "into": target.path.name}


def is_done(job: Job, target: Target) -> bool:
    """Whether the labels of a job are in the image, made in the same way of the same voxels, and its tables are there."""
    job = fitted(job, target)
    with job.described(target.path):
        wanted = fingerprint(_parts(job, target))
    manifests = [read_manifest(target.path / output.place) for output in job.outputs]
    files = [target.path / file for name in job.tables for file in job.table_files(name)]
    labels = all(manifest is not None and manifest["fingerprint"] == wanted for manifest in manifests)
    return bool(manifests) and labels and all(file.exists() for file in files)


def _check_names(job: Job, target: Target, overwrite: bool) -> None:
    """Refuse names that are taken, and those that belong to the run that made the image."""
    manifest = read_manifest(target.path) or {"arrays": {}, "others": []}
    own = {name.rpartition("/")[0] for name in manifest["arrays"]} | {one[0] for one in manifest["others"]}
    for name in [o.place for o in job.outputs] + [f for n in job.tables for f in job.table_files(n)]:
        there = target.path / name
        if name in own:
            raise RunError(
                f"{there}: was made by the run that wrote the image, and bigbia verify would find it changed: choose "
                "another name"
            )
        if there.exists() and not overwrite:
            raise RunError(f"{there}: exists; choose another name, or pass overwrite=True (--overwrite) to replace it")


def _get_ready(run: Run, job: Job, target: Target) -> None:
    """Make of each label image a whole output, and note what is to be moved."""
    manifest = read_manifest(run.root)
    if manifest is None:
        raise RunError(f"{run.root}: its manifest is gone since it was written: run again")
    places = [output.place for output in job.outputs]
    for place in places:
        outfit(run, manifest, place, target.path.name)
    sync_tree(run.root)
    found = {
        "run": run.record["id"],
        "fingerprint": run.record["fingerprint"],
        "labels": places,
        "tables": [f for name in job.tables for f in job.table_files(name)],
    }
    write_json(run.root / MOVING, found)


def finish(target: Target) -> dict[str, Any] | None:
    """Finish the moving that an earlier run was stopped at; what it was, or None where there is none."""
    root = partial_of(target.run).absolute()
    shutil.rmtree(_done(root), ignore_errors=True)
    if holder_of(root) is not None or not (root / MOVING).exists():
        return None
    with led(root):
        found = read_json(root / MOVING)
        move(root, target)
    return found


def move(root: Path, target: Target) -> None:
    """Move what is ready into the image, a step at a time; whatever is done is passed over."""
    found = read_json(root / MOVING)
    with storage_errors(target.path):
        for place in found["labels"]:
            _move_label(root / place, target.path / place, found["run"])
        for name in found["tables"]:
            if (root / name).exists():
                (target.path / name).parent.mkdir(exist_ok=True)
                os.replace(root / name, target.path / name)
                sync_folder((target.path / name).parent)
        names = [place.split("/")[-1] for place in found["labels"]]
        if names:
            _list(target, names)
            _sign_again(target)
        sync_folder(target.path)
        # Under a name that nobody takes for a run: removing it may be cut short too.
        shutil.rmtree(_done(root), ignore_errors=True)
        os.rename(root, _done(root))
        shutil.rmtree(_done(root), ignore_errors=True)
        sync_folder(root.parent)


def _done(root: Path) -> Path:
    return root.with_name(root.name + ".done")


def _move_label(new: Path, there: Path, run: str) -> None:
    if _run_of(there) == run:
        return
    there.parent.mkdir(exist_ok=True)
    if there.exists() and not exchange(new, there):
        old = new.with_name(f"{new.name}.replaced")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(there, old)
    if _run_of(there) != run:
        os.rename(new, there)
    sync_folder(there.parent)


def _run_of(folder: Path) -> str | None:
    """Which run made an output."""
    try:
        found = read_json(folder / MANIFEST)
    except StorageError:
        return None
    return found.get("run") if isinstance(found, Mapping) else None


def _list(target: Target, names: list[str]) -> None:
    """Add names to the list of label images, replaced in one step; what else stands there stays."""
    folder = target.path / "labels"
    if target.version == "0.5":
        path = folder / "zarr.json"
        document = read_json(path) or {"zarr_format": 3, "node_type": "group", "attributes": {}}
        holder = document.setdefault("attributes", {}).setdefault("ome", {"version": "0.5"})
    else:
        path = folder / ".zattrs"
        if not (folder / ".zgroup").exists():
            durable.replace(folder / ".zgroup", json.dumps({"zarr_format": 2}, indent=2).encode())
        document = holder = read_json(path) or {}
    known = [name for name in holder.get("labels") or [] if isinstance(name, str)]
    wanted = [*known, *(name for name in names if name not in known)]
    if wanted != holder.get("labels"):
        holder["labels"] = wanted
        durable.replace(path, json.dumps(document, indent=2).encode())


def _sign_again(target: Target) -> None:
    """An image that bigbia made and that had labels says in its manifest what their list was: now it is another."""
    manifest = read_manifest(target.path)
    if manifest is None:
        return
    listed = f"labels/{'zarr.json' if target.version == '0.5' else '.zattrs'}"
    metadata = [
        list(durable.written(target.path, listed)) if one[0] == listed else list(one) for one in manifest["metadata"]
    ]
    if metadata != [list(one) for one in manifest["metadata"]]:
        sign(target.path, {**manifest, "metadata": metadata})


def _tell_of_lists(target: Target) -> None:
    """Metadata that were copied into one document do not know of what is new."""
    with suppress(StorageError):
        whole = (target.path / ".zmetadata").exists()
        document = read_json(target.path / "zarr.json") if target.version == "0.5" else None
        if whole or (isinstance(document, Mapping) and document.get("consolidated_metadata")):
            warnings.warn(
                f"{target.path}: has consolidated metadata, which do not list what was added: programs that read only "
                f"these see it after zarr.consolidate_metadata({str(target.path)!r})",
                BigbiaWarning,
                stacklevel=2,
            )
