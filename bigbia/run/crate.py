"""An RO-Crate of an output: `ro-crate-metadata.json` beside its images, labels and tables.

RO-Crate 1.1 with the terms of the profile Process Run Crate: a run is a CreateAction with bigbia as its instrument, the
inputs as its object and what was written as its result. Made of `_bigbia/provenance.json` and `_bigbia/manifest.json`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bigbia.errors import InputError
from bigbia.io.durable import replace, storage_errors
from bigbia.run.provenance import PROVENANCE, as_json, read_provenance, stamp
from bigbia.run.publishing import MANIFEST, read_manifest

NAME = "ro-crate-metadata.json"
CRATE = "https://w3id.org/ro/crate/1.1"
PROFILE, PROFILE_VERSION = "https://w3id.org/ro/wfrun/process/0.5", "0.5"
CONTEXT = [f"{CRATE}/context", "https://w3id.org/ro/terms/workflow-run/context"]
TABLES = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv"}
ZARR = {"0.5": "application/vnd.zarr; version=3", "0.4": "application/vnd.zarr; version=2"}
ABOUT = {  # files about the run, where they are there
    "pipeline.yaml": ("application/yaml", "The pipeline as it was run"),
    PROVENANCE: ("application/json", "Where the output comes from"),
    MANIFEST: ("application/json", "Its files and the hash of all of them"),
    "_bigbia/report.html": ("text/html", "The run report"),
    "_bigbia/report.json": ("application/json", "The figures of the run report"),
}
Entity = dict[str, Any]


def crate(output: str | os.PathLike[str], *, license: str | None = None) -> Path:
    """Write the RO-Crate metadata of an output into its folder.

    Parameters
    ----------
    output : the OME-Zarr folder that a run has published
    license : of the data, as an address or in words; left out by default, as nobody but you knows it

    Returns
    -------
    Path
        of `ro-crate-metadata.json`; it is replaced where it was there

    Raises
    ------
    InputError : there is no such folder, or it says nothing of where it comes from
    RunError, StorageError : its manifest or its provenance is damaged; the folder cannot be written to

    Examples
    --------
    >>> crate(Path("nuclei.zarr"))  # doctest: +SKIP
    PosixPath('nuclei.zarr/ro-crate-metadata.json')
    """
    output = Path(output)
    found = read_provenance(output)
    manifest = read_manifest(output)
    if manifest is None:
        raise InputError(f"{output}: has no manifest ({MANIFEST}): only an output that was published becomes a crate")
    path = output / NAME
    with storage_errors(path):
        replace(path, as_json(document(output, found, manifest, license)))
    return path


def document(
    output: Path, found: Mapping[str, Any], manifest: Mapping[str, Any], license: str | None = None
) -> dict[str, Any]:
    """The metadata document, as plain values."""
    entities = [_descriptor(), _profile()]
    images = [_image(place, layout, manifest) for place, layout in found["outputs"].items()]
    tables = [_table(output, name, found["tables"]["format"]) for name in found["tables"]["names"]]
    parts = [*(one for some in images for one in some[:1]), *(one for some in tables for one in some[:1])]
    steps = _steps(found.get("pipeline"), output)
    about = [_file(output, name, steps) for name in ABOUT if (output / name).is_file()]
    inputs = [_input(n, place, digest) for n, (place, digest) in enumerate(found["inputs"].items(), 1)]
    entities += [_root(output.name, found, manifest, [*parts, *about], license), *parts, *about]
    entities += [one for some in (*images, *tables) for one in some[1:]]
    entities += _formats({layout["version"] for layout in found["outputs"].values()})
    for some in inputs:
        entities += some
    entities += steps
    if license and _is_address(license):
        entities.append({"@id": license, "@type": "CreativeWork", "name": license})
    entities += [_software(found["versions"]), *_libraries(found["versions"])]
    entities.append(_action(found, manifest, [some[0] for some in inputs], parts, output))
    entities.append(_value("#files-root", "hash of all files", manifest["root"]))
    return {"@context": CONTEXT, "@graph": list({e["@id"]: e for e in entities}.values())}


def _id(entity: Mapping[str, Any]) -> Entity:
    return {"@id": entity["@id"]}


def _value(name: str, what: str, value: Any) -> Entity:
    """A figure, which is an entity too."""
    return {"@id": name, "@type": "PropertyValue", "name": what, "value": value}


def _descriptor() -> Entity:
    return {"@id": NAME, "@type": "CreativeWork", "conformsTo": {"@id": CRATE}, "about": {"@id": "./"}}


def _profile() -> Entity:
    return {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": PROFILE_VERSION}


# ---- what was written ------------------------------------------------------------------------------------------------
def _root(
    name: str, found: Mapping[str, Any], manifest: Mapping[str, Any], parts: list[Entity], license: str | None
) -> Entity:
    many = len(manifest["missing"])
    lacking = f" {many} blocks could not be computed; zeros stand for them." if many else ""
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": name,
        "description": f"Images, labels and tables as OME-Zarr, computed by bigbia {found['versions'].get('bigbia')}.{lacking}",
        "datePublished": stamp(manifest["made"]),
        "conformsTo": {"@id": PROFILE},
        "identifier": {"@id": "#files-root"},
        "hasPart": [_id(part) for part in parts],
        "mentions": {"@id": "#run"},
    }
    if license:
        root["license"] = {"@id": license} if _is_address(license) else license
    return root


def _is_address(text: str) -> bool:
    return re.fullmatch(r"https?://\S+", text) is not None


def _image(place: str, layout: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[Entity]:
    """An image or labels, and its figures. The image at the root of the folder is the folder of its finest level."""
    top = "" if place == "image" else f"{place}/"
    arrays = {name: n for name, n in manifest["arrays"].items() if re.fullmatch(re.escape(top) + r"\d+", name)}
    where = quote(top) or "0/"
    figures = {
        "shape": ", ".join(f"{a} {n}" for a, n in zip(layout["axes"], layout["shape"])),
        "data type": layout["dtype"],
        "chunk": ", ".join(map(str, layout["chunks"])),
        "pyramid levels": len(arrays),
        "files": sum(arrays.values()),
    }
    if layout.get("voxel_size"):
        sizes = ", ".join(f"{a} {v:g}" for a, v in layout["voxel_size"].items())
        figures["voxel size"] = f"{sizes} {layout.get('unit') or ''}".strip()
    values = [_value(f"#{where}{k.replace(' ', '-')}", k, v) for k, v in figures.items()]
    kind = "Label image" if layout["labels"] else "Image"
    coarse = f", from pyramid level {layout['first_level']} on" if layout.get("first_level") else ""
    return [
        {
            "@id": where,
            "@type": "Dataset",
            "name": place,
            "description": f"{kind}, {figures['shape']}, {layout['dtype']}{coarse}",
            "encodingFormat": [ZARR[layout["version"]], {"@id": _format(layout["version"])}],
            "additionalProperty": [_id(v) for v in values],
        },
        *values,
    ]


def _format(version: str) -> str:
    return f"https://ngff.openmicroscopy.org/{version}/"


def _formats(versions: set[str]) -> list[Entity]:
    return [{"@id": _format(v), "@type": "WebSite", "name": f"OME-Zarr {v}"} for v in sorted(versions)]


def _table(output: Path, name: str, ending: str) -> list[Entity]:
    path = output / "tables" / f"{name}.{ending}"
    where = quote(f"tables/{name}.{ending}")
    rows, columns = _counts(path)
    values = [_value(f"#{where}/rows", "rows", rows), _value(f"#{where}/columns", "columns", ", ".join(columns))]
    return [
        {
            "@id": where,
            "@type": "File",
            "name": f"tables/{name}",
            "description": f"Table of {rows} rows: {', '.join(columns)}",
            "encodingFormat": TABLES[ending],
            "contentSize": str(path.stat().st_size),
            "additionalProperty": [_id(v) for v in values],
        },
        *values,
    ]


def _counts(path: Path) -> tuple[int, list[str]]:
    """The rows and the columns of a table; only of CSV are the rows read."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as file:
                return file.metadata.num_rows, list(file.schema_arrow.names)
        import csv

        with path.open(newline="", encoding="utf-8") as text:
            lines = csv.reader(text)
            head = next(lines, [])
            return sum(1 for _ in lines), head
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table: {error}; see bigbia verify {path.parents[1]}") from None


def _file(output: Path, name: str, steps: list[Entity]) -> Entity:
    form, what = ABOUT[name]
    kind: Any = ["File", "SoftwareSourceCode", "HowTo"] if name == "pipeline.yaml" else "File"
    found: Entity = {"@id": name, "@type": kind, "name": what, "encodingFormat": form}
    if name == "pipeline.yaml":
        found["step"] = [_id(step) for step in steps]
    return found | {"contentSize": str((output / name).stat().st_size)}


# ---- what it was made of ---------------------------------------------------------------------------------------------
def _input(number: int, place: str, digest: str) -> list[Entity]:
    """An input lies outside of the crate: its last name, and a hash of what was in it. An address is told whole."""
    value = _value(f"#input-{number}-digest", "content digest", digest)
    value["propertyID"] = "bigbia"
    tail = [part for part in re.split(r"[\\/]+", place) if part]
    shown = next((i for i, part in enumerate(tail) if "." in part.strip(".")), max(0, len(tail) - 1))
    found: Entity = {"@id": f"#input-{number}", "@type": "CreativeWork", "name": "/".join(tail[shown:]) or place}
    if re.match(r"[a-z][a-z0-9+.-]+://", place) and not place.startswith("file:"):
        found |= {"name": place, "url": place}
    return [{**found, "identifier": _id(value)}, value]


def _steps(pipeline: Any, output: Path) -> list[Entity]:
    """The steps of the pipeline, in order."""
    if not isinstance(pipeline, Mapping) or not isinstance(pipeline.get("steps"), Mapping):
        return []
    if not (output / "pipeline.yaml").is_file():
        return []
    return [
        {
            "@id": f"pipeline.yaml#{quote(str(name), safe='')}",
            "@type": "HowToStep",
            "name": str(name),
            "position": str(n),
            "text": step if isinstance(step, str) else json.dumps(step, ensure_ascii=False, default=str),
        }
        for n, (name, step) in enumerate(pipeline["steps"].items(), 1)
    ]


def _software(versions: Mapping[str, str]) -> Entity:
    return {
        "@id": "#bigbia",
        "@type": "SoftwareApplication",
        "name": "bigbia",
        "softwareVersion": versions.get("bigbia", "unknown"),
        "softwareRequirements": [_id(e) for e in _libraries(versions)],
    }


def _libraries(versions: Mapping[str, str]) -> list[Entity]:
    return [
        {"@id": f"#{quote(name)}", "@type": "SoftwareApplication", "name": name, "softwareVersion": version}
        for name, version in versions.items()
        if name != "bigbia"
    ]


def _action(
    found: Mapping[str, Any], manifest: Mapping[str, Any], inputs: list[Entity], results: list[Entity], output: Path
) -> Entity:
    times, machine = found["times"], found.get("machine", {})
    pipeline = [{"@id": "pipeline.yaml"}] if (output / "pipeline.yaml").is_file() else []
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"bigbia made {output.name}",
        "description": f"On {machine.get('platform')}, {machine.get('cpu')}; run {found['run']}, fingerprint {found['fingerprint']}",
        "instrument": {"@id": "#bigbia"},
        "object": [*(_id(one) for one in inputs), *pipeline],
        "result": [_id(one) for one in results],
        "startTime": times["began"],
        "endTime": times["ended"] or stamp(manifest["made"]),
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
    }
    return {key: value for key, value in action.items() if value is not None}
