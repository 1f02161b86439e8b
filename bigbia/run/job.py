"""What is to be written, checked, and how: the arguments of `save` as one thing, for a run or for many."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from bigbia import config, hyperstack
from bigbia.errors import InputError, ParameterError
from bigbia.graph.footprints import brief, whole_number
from bigbia.graph.lazy import check_image
from bigbia.graph.table import table_graph
from bigbia.run import pipeline_file
from bigbia.run.admission import Admission, admit
from bigbia.run.execute import memory_of
from bigbia.run.fingerprint import inputs_of, missing_chunks, versions
from bigbia.run.output import Output, output_of
from bigbia.run.showing import display_of, shown_as
from bigbia.run.work import Work

DEFAULT_LAYOUT = {
    "version": "0.5",
    "chunks": None,
    "shards": None,
    "levels": None,
    "label_downsampling": "nearest",
    "table_format": "parquet",
}
LAYOUT = ("version", "chunks", "shards", "levels")
RERUN = ".rerun"  # ends the name of an output that is made again to be compared


@dataclass
class Job:
    """What is to be written, and how."""

    outputs: list[Output]
    tables: dict[str, Any]
    layout: dict[str, Any]  # the arguments of `save` that say how it is written
    pipeline: str | None
    origin: dict[str, Any]  # how the input was opened
    scheduler: str | None
    progress: Any

    @cached_property
    def graphs(self) -> dict[str, Any]:
        """The tables that bigbia computes."""
        return {name: graph for name, table in self.tables.items() if (graph := table_graph(table)) is not None}

    @cached_property
    def work(self) -> Work:
        return Work(self.outputs, {name: graph.parts for name, graph in self.graphs.items()})

    @cached_property
    def live(self) -> dict[str, da.Array]:
        several = [*(o.image.live for o in self.outputs), *(g.live for g in self.graphs.values())]
        return {name: array for some in several for name, array in some.items()}

    def table_files(self, name: str) -> list[str]:
        """The files of a table, in the output."""
        form = self.layout["table_format"]
        return [f"tables/{name}.{form}", *([f"tables/{name}.csv-metadata.json"] if form == "csv" else [])]

    @contextmanager
    def described(self, final: Path) -> Iterator[Path]:
        """The metadata of the output in a folder of their own, while the context lasts: what is planned needs them."""
        with tempfile.TemporaryDirectory(prefix="bigbia-") as folder:
            documents = Path(folder) / final.name.removesuffix(RERUN)
            for output in self.outputs:
                output.create(documents)
            yield documents

    def fingerprint(self) -> dict[str, Any]:
        """The parts of `run/fingerprint.py`. Asked within `described`."""
        document = pipeline_file.loads(self.pipeline, "pipeline") if self.pipeline is not None else None
        return {
            "pipeline": document,
            "input": inputs_of(self.work.nodes),
            "output": {
                **{output.place or "image": output.described() for output in self.outputs},
                "tables": {name: tokenize(table) for name, table in self.tables.items()},
                "table_format": self.layout["table_format"],
                "blocks": [[list(map(max, stage.grid.chunks)), len(stage.grid)] for stage in self.work.writers],
            },
            "versions": versions(),
            "missing_chunks": missing_chunks(self.work.nodes),
        }

    def admit(self, final: Path) -> Admission:
        """Refuse what cannot be done with the memory and the disk there are."""
        shapes = [(array.shape, array.dtype) for output in self.outputs for array in output.arrays]
        raw = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shapes)
        threads, limit = memory_of(self.scheduler)
        beside = final.parent if config.get("scratch") == "auto" else config.scratch_folder()
        return admit(
            self.work.every_stage(),
            threads=threads,
            limit=limit,
            destination=final,
            bytes_written=raw,
            scratch=beside,
        )


def job_of(
    what: Mapping[str, Any],
    layout: Mapping[str, Any],
    *,
    pipeline: str | None = None,
    origin: Mapping[str, Any] | None = None,
    scheduler: str | None = None,
    progress: Any = None,
) -> Job:
    """The job of writing images, labels and tables, checked; and the settings, which are asked for when it runs."""
    config.check()
    for section in ("images", "labels", "tables"):
        if what.get(section) is not None and not isinstance(what[section], Mapping):
            raise ParameterError(
                f"save: {section}={brief(what[section])}: give a mapping of names: {{'nuclei': nuclei}}"
            )
    if layout["levels"] is not None:
        whole_number(layout["levels"], "levels", "save", least=1)
    outputs = _outputs(what, layout)
    tables = _checked_tables(what.get("tables") or {}, layout["table_format"])
    if not outputs and not tables:
        raise ParameterError("save: nothing to save: give image, images, labels or tables")
    return Job(outputs, tables, dict(layout), pipeline, dict(origin or {}), scheduler, progress)


def _outputs(what: Mapping[str, Any], layout: Mapping[str, Any]) -> list[Output]:
    how = layout["label_downsampling"]
    if how not in ("nearest", "mode"):
        raise ParameterError(f'save: label_downsampling={how!r}: "nearest" or "mode"')
    image, images, labels, source = (what.get(k) for k in ("image", "images", "labels", "source"))
    named: list[tuple[str, Any, bool, int]] = []
    if image is not None:
        named.append(("", image, False, 0))
    elif source is not None:
        named.append(("", source, False, 1))
    named += [(f"images/{_name(n)}", a, False, 0) for n, a in (images or {}).items()]
    named += [(f"labels/{_name(n)}", a, True, 0) for n, a in (labels or {}).items()]
    out = []
    for place, array, is_label, first in named:
        where = f"save: {place or 'image'}"
        check_image(array, where)
        if is_label and array.dtype.kind not in "iu":
            raise InputError(f"{where}: {array.dtype} voxels are no labels: use measure.label, or save it under images")
        if not hyperstack.is_hyperstack(array):
            if array.ndim not in (2, 3):
                raise InputError(
                    f"{where}: a plain array of {array.ndim} axes {tuple(array.shape)}: name them with bigbia.hyperstack.hyperstack(array, axes)"
                )
            array = hyperstack.hyperstack(array, "zyx"[3 - array.ndim :])
        given = display_of(source) | display_of(array)
        array = array.transpose(*[d for d in "tczyx" if d in array.dims])
        downsampling = how if is_label else "mean"
        cut = {k: layout[k] for k in LAYOUT}
        output = output_of(place, array, is_label, first, **cut, how=downsampling)
        if not is_label:
            output.shown = shown_as(array, output.image.node, given)
        out.append(output)
    return out


def _name(name: str) -> str:
    if not name or name in (".", "..") or "/" in name or "\\" in name or name.startswith("."):
        raise ParameterError(f"save: {name!r} is no name for a folder: use letters, digits, - and _")
    return name


def _checked_tables(tables: Mapping[str, Any], table_format: str) -> dict[str, Any]:
    if table_format not in ("parquet", "csv"):
        raise ParameterError(f'save: table_format={table_format!r}: "parquet" or "csv"')
    for name, table in tables.items():
        _name(name)
        if not hasattr(table, "columns"):
            raise ParameterError(f"save: tables: {name!r} is a {type(table).__name__}, not a table")
    return dict(tables)
