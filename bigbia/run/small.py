"""A small image as one task: the job of the first one of its kind, planted on each further one (`graph/at_hand.py`).

The output is that of a run of its own, file by file: voxels, tables, metadata, ledger, manifest. What a run of its own
also keeps, its report, stages, is left out: a batch has one page for all. Its files are written without waiting for the
disk; whoever publishes some of them brings them to the disk first (`run/batch.py`).
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bigbia.graph.at_hand import carry_out, planted
from bigbia.graph.boxes import slices, whole
from bigbia.graph.journal import Written, digest
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Store
from bigbia.io.display import windows_of
from bigbia.io.encoding import Encoder
from bigbia.io.places import Place
from bigbia.io.zarr_layout import Layout, ZarrNode
from bigbia.run.about_tables import named, table_metadata
from bigbia.run.contract import FORMAT
from bigbia.run.fingerprint import every_node, fingerprint, has_live, without_tokens
from bigbia.run.job import Job
from bigbia.run.ledger import FOLDER, Entry, Total
from bigbia.run.publishing import MANIFEST, signed
from bigbia.run.sessions import session
from bigbia.run.showing import group_document, shown_in, takes_windows
from bigbia.run.tasks import peak_memory, told, worker

VOXELS = 1 << 24  # an image of more is cut into blocks, which all threads share


def kind_of(image: Any, source: Any) -> tuple:
    """What a job depends on: two images of one kind have the same pipeline, node by node, but for the voxels.

    source : the store that the image is read from, of which it may be a part
    """
    coordinates = tuple(
        (str(name), coordinate.dims, coordinate.values.tobytes(), str(coordinate.values.dtype), str(coordinate.attrs))
        for name, coordinate in sorted(image.coords.items(), key=lambda item: str(item[0]))
    )
    display = json.dumps(image.encoding.get("display"), sort_keys=True, default=str)
    store = tuple(source.shape), str(source.dtype), str(image.encoding.get("block"))
    return store, image.dims, image.shape, str(image.dtype), image.chunks, coordinates, display


@dataclass
class Made:
    """An image that is computed and written, in a folder that is not published yet."""

    folder: Path
    tables: dict[str, list[Any]]  # its rows, a frame a part
    rows: dict[str, int]
    bytes: int


@dataclass
class Kind:
    """The job of images of one kind."""

    job: Job
    token: str  # of the source that the job was made for
    parts: dict[str, Any]  # of its fingerprint; the input is another one each time
    name: str  # of the output that the metadata were made for
    documents: dict[str, Any]  # the metadata in which the name stands, or windows that are taken of the voxels
    plain: dict[str, bytes]  # those that are the same for all
    levels: list[list[tuple[str, Encoder, Layout]]]  # of each output
    provenance: dict[str, Any] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, job: Job, final: Path) -> Kind | None:
        """None where a job cannot be planted: it reads more than one image, or holds what only Dask can compute."""
        stores = [node for node in every_node(job.work.nodes) if isinstance(node, Store)]
        if len({node.token for node in stores}) != 1 or has_live(job.work.nodes) or set(job.graphs) != set(job.tables):
            return None
        with job.described(final) as folder:
            parts = job.fingerprint()
            documents, plain = _documents(
                folder, final.name, [group_document(o) for o in job.outputs if takes_windows(o)]
            )
            levels = [[(name, *_encoding(plain, name)) for name in output.names()] for output in job.outputs]
        return cls(job, stores[0].token, without_tokens(parts), final.name, documents, plain, levels)

    def fits(self, threads: int, limit: int) -> bool:
        """Whether an image a thread fits the memory, with all that its stages find."""
        job = self.job
        voxels = max(int(np.prod(node.shape)) for node in every_node(job.work.nodes) if node.shape)  # the source, too
        held = 3.0 * max(node.dtype.itemsize for node in job.work.nodes)
        for stage in job.work.every_stage():
            held += stage.workspace + sum(stage.writes(step) for step in stage.steps)
        return voxels <= VOXELS and threads * voxels * held <= limit / 2

    def parts_for(self, source: Any) -> dict[str, Any]:
        """The parts of the run's fingerprint for another image."""
        absent, total = source.missing_chunks() if hasattr(source, "missing_chunks") else (0, 0)
        place = str(getattr(source, "place", ""))
        missing = {place: f"{absent} of {total}"} if absent else {}
        return {**self.parts, "input": {place: str(source.token)}, "missing_chunks": missing}

    def make(self, source: Any, parts: Mapping[str, Any], origin: Mapping[str, Any], name: str, folder: Path) -> Made:
        """Compute one image and write its output."""
        began = time.time()
        voxels = source.read(whole(source.shape))
        work = self.job.work
        nodes, stages = [o.image.node for o in work.outputs], [part.stage for part in work.parts]
        nodes, stages = planted((nodes, stages), {self.token: voxels})
        carry_out(nodes, stages, told)
        writer = _Writer(folder)
        images = read_together(nodes, [whole(node.shape) for node in nodes])
        documents = {where: _renamed(self.documents[where], self.name, name) for where in self.documents}
        for output, levels, image in zip(work.outputs, self.levels, images):
            last = writer.image(output, levels, image)
            if takes_windows(output):
                where = group_document(output)
                found = windows_of(last, tuple(map(str, output.array.dims)))
                documents[where] = shown_in(documents[where], output, found)
        frames = self._frames(work, stages)
        for table in self.job.graphs:
            about = {**table_metadata(self.job, table, parts), "image": named(str(origin["input"]))}
            writer.table(self.job.table_files(table), frames[table], about)
        if self.job.pipeline is not None:
            writer.other("pipeline.yaml", self.job.pipeline.encode())
        self._describe(writer, documents, name, parts, origin, began)
        rows = {table: sum(map(len, several)) for table, several in frames.items()}
        return Made(folder, frames, rows, writer.total.nbytes)

    def _frames(self, work: Any, stages: Sequence[Any]) -> dict[str, list[Any]]:
        rest = iter(stages)
        found: dict[str, list[Any]] = {}
        for table, parts in work.tables.items():
            found[table] = []
            for part in parts:
                mine = type(part)(next(rest), part.frame, part.columns, part.where)
                found[table] += [mine.partition(i) for i in range(mine.stage.partitions)]
        return found

    def _describe(
        self,
        writer: _Writer,
        documents: Mapping[str, Any],
        name: str,
        parts: Mapping[str, Any],
        origin: Mapping[str, Any],
        began: float,
    ) -> None:
        """The metadata, the ledger, the manifest."""
        metadata = [writer.put(where, json.dumps(found, indent=2).encode()) for where, found in documents.items()]
        metadata += [writer.put(where, data) for where, data in self.plain.items()]
        ledger = "image.write.jsonl"
        entry = Entry((), tuple(writer.voxels), time.time() - began, 1, worker(), peak_memory(), time.time())
        metadata.append(writer.put(f"{FOLDER}/ledger/{ledger}", entry.line()))
        record = {
            "format": FORMAT,
            "id": uuid.uuid4().hex,
            "fingerprint": fingerprint(parts),
            "resumable": True,
            "parts": parts,
            "sessions": [{**session(), "began": began, "ended": time.time()}],
            "origin": origin,
            "layout": self.job.layout,
            "times": {},
            "plan": [],
        }
        manifest = {
            "format": FORMAT,
            "fingerprint": record["fingerprint"],
            "run": record["id"],
            "root": writer.total.root,
            "files": len(writer.voxels) + len(writer.others),
            "bytes": writer.total.nbytes,
            "arrays": {array: int(np.prod(layout.grid)) for several in self.levels for array, _, layout in several},
            "ledger": [ledger],
            "others": [list(file) for file in writer.others],
            "metadata": [list(file) for file in metadata],
            "missing": [],
            "made": time.time(),
        }
        more = [
            writer.put(f"{FOLDER}/run.json", json.dumps(record, default=str).encode()),
            writer.put(f"{FOLDER}/provenance.json", self._provenance(record, manifest, name)),
        ]
        writer.put(MANIFEST, json.dumps(signed(manifest, more)).encode())

    def _provenance(self, record: dict[str, Any], manifest: dict[str, Any], name: str) -> bytes:
        from bigbia.run import provenance

        run: Any = SimpleNamespace(parts=record["parts"], record=record, final=Path(name), missing=[])
        with self.lock:
            if not self.provenance:  # the versions of libraries, the machine: asked for once
                self.provenance = provenance.provenance(run, manifest)
        sessions = provenance.sessions_of(run, manifest)
        found = {
            **self.provenance,
            "run": record["id"],
            "fingerprint": record["fingerprint"],
            "output": name,
            "origin": record["origin"],
            "inputs": record["parts"]["input"],
            "missing_chunks": record["parts"]["missing_chunks"],
            "sessions": sessions,
            "times": provenance.times(sessions),
            "files": provenance.files_of(manifest),
        }
        return json.dumps(found, default=str).encode()


def _documents(folder: Path, name: str, varying: Sequence[str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The metadata of an output: those that are another for each image, as values, and the others as they stand."""
    documents, plain = {}, {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            where, data = path.relative_to(folder).as_posix(), path.read_bytes()
            found = json.loads(data)
            if where in varying or _renamed(found, name, "") != found:
                documents[where] = found
            else:
                plain[where] = data
    return documents, plain


def _encoding(plain: Mapping[str, bytes], array: str) -> tuple[Encoder, Layout]:
    raw = plain.get(f"{array}/zarr.json") or plain[f"{array}/.zarray"]
    meta = json.loads(raw)
    return Encoder(meta), Layout.of(ZarrNode(Place(f"/{array}"), "array", meta, {}, raw))


def _renamed(document: Any, old: str, new: str) -> Any:
    """A document in which an output of another name calls itself by its own."""
    if isinstance(document, Mapping):
        return {key: _renamed(value, old, new) for key, value in document.items()}
    if isinstance(document, list):
        return [_renamed(value, old, new) for value in document]
    return new if document == old else document


class _Writer:
    """The files of one output, and the list of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = {str(folder.parent)}
        self.voxels: list[Written] = []
        self.others: list[Written] = []
        self.total = Total()

    def put(self, name: str, data: bytes) -> Written:
        path = f"{self.folder}/{name}"
        self._folder(os.path.dirname(path))
        with open(path, "wb", buffering=0) as file:
            view = memoryview(data)
            while len(view):
                view = view[file.write(view) :]
        return Written(name, len(data), digest(name, [data]))

    def _folder(self, path: str) -> None:
        if path not in self.made:
            self._folder(os.path.dirname(path))
            with suppress(FileExistsError):
                os.mkdir(path)
            self.made.add(path)

    def other(self, name: str, data: bytes) -> None:
        self._add(self.others, self.put(name, data))

    def _add(self, several: list[Written], file: Written) -> None:
        several.append(file)
        self.total.add(file)

    def image(self, output: Any, levels: Sequence[tuple[str, Encoder, Layout]], data: np.ndarray) -> np.ndarray:
        """Write the levels of an image; the last one."""
        voxels = data
        for (name, encoder, layout), voxels in zip(levels, output.made_levels(data)):
            for index in layout.touched(whole(layout.shape)):
                file = f"{name}/{layout.key(index)}"
                self._add(self.voxels, self.put(file, encoder.encode(voxels[slices(layout.box(index))])))
        return voxels

    def table(self, files: Sequence[str], frames: Sequence[Any], about: Mapping[str, Any]) -> None:
        from bigbia.io.durable import written
        from bigbia.io.tables import write_table

        write_table(iter(frames), self.folder / files[0], metadata=about, durable=False)
        for file in files:
            self._add(self.others, written(self.folder, file))
