"""Where an output comes from is told whole, read back, and given as an RO-Crate that others understand."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

import bigbia
from bigbia.errors import InputError, StorageError
from bigbia.hyperstack import hyperstack
from bigbia.run.contract import Run
from bigbia.run.crate import NAME, crate
from bigbia.run.ledger import read_json
from bigbia.run.pipeline import Pipeline
from bigbia.run.provenance import PROVENANCE, provenance, read_provenance, sessions_of, times, write_provenance
from bigbia.run.publishing import read_manifest

PIPELINE = """\
bigbia: 1
steps:
  smooth: {op: filters.gaussian, image: input, sigma: 1.5}
  mask:   smooth > 90
  nuclei: {op: measure.label, label_image: mask}
  table:  {op: measure.regionprops_table, label_image: nuclei, intensity_image: input}
save:
  image: input
  labels: {nuclei: nuclei}
  tables: {nuclei: table}
"""


def read_back(output: Path) -> Run:
    """The run of an output, from what it left."""
    record = read_json(output / "_bigbia" / "run.json")
    return Run(output, output, record["parts"], record=record)


@pytest.fixture
def output(tmp_path) -> Path:
    """A small run of a pipeline on a file, with its provenance."""
    image = np.random.default_rng(0).integers(0, 200, (12, 30, 32)).astype("u2")
    source, out = tmp_path / "cells.zarr", tmp_path / "out.zarr"
    bigbia.save(source, hyperstack(da.from_array(image, chunks=16), "zyx", voxel_size={"z": 2.0, "y": 0.5, "x": 0.5}, unit="um"))  # fmt: skip
    plan = Pipeline.parse(PIPELINE)
    options = {"level": 0, "block": "16"}
    bigbia.save(
        out, **plan.outputs(plan.build(bigbia.open(source))), pipeline=plan.text, chunks=16,
        origin={"input": str(source), "options": options},
    )  # fmt: skip
    write_provenance(out, provenance(read_back(out), read_manifest(out)))
    return out


def test_everything_an_output_needs_to_be_made_again(output):
    found, record, manifest = read_provenance(output), read_json(output / "_bigbia/run.json"), read_manifest(output)
    assert found["pipeline"]["steps"]["smooth"]["sigma"] == 1.5
    assert found["save"] == {"image": "input", "labels": {"nuclei": "nuclei"}, "tables": {"nuclei": "table"}}
    assert found["inputs"] == record["parts"]["input"]
    assert found["origin"]["options"] == {"level": 0, "block": "16"}
    assert set(found["outputs"]) == {"image", "labels/nuclei"}
    assert found["outputs"]["labels/nuclei"]["shape"] == [12, 30, 32]
    assert found["tables"] == {"names": ["nuclei"], "format": "parquet"}
    assert found["files"]["root"] == manifest["root"]
    assert found["files"]["files"] == manifest["files"] == sum(manifest["arrays"].values()) + 2
    assert found["fingerprint"] == manifest["fingerprint"]
    assert {"bigbia", "python", "numpy", "zarr", "dask"} <= set(found["versions"])
    assert found["machine"]["cpus"] == os.cpu_count()
    assert found["machine"]["memory"] > 1 << 28
    assert found["missing"] == []


def test_times_are_those_of_the_sessions(output):
    found, record = read_provenance(output), read_json(output / "_bigbia/run.json")
    began = datetime.fromisoformat(found["times"]["began"]).timestamp()
    assert began == pytest.approx(record["sessions"][0]["began"], abs=0.002)
    assert found["times"]["ended"] >= found["times"]["began"]
    assert 0 < found["times"]["seconds"] < 600
    assert found["sessions"][0]["error"] is None


def test_a_session_that_was_killed_is_known_as_such(output):
    run = read_back(output)
    last = run.record["sessions"][0]
    run.record["sessions"] = [
        {k: v for k, v in last.items() if k != "ended"},
        {**last, "began": last["began"] + 50, "ended": last["began"] + 60, "error": "KeyboardInterrupt: "},
        {**last, "began": last["began"] + 100, "ended": last["began"] + 103},
    ]
    sessions = sessions_of(run, None)
    assert [s["ended"] is None for s in sessions] == [True, False, False]
    assert [s["error"] for s in sessions] == [None, "KeyboardInterrupt: ", None]
    assert times(sessions) | {"began": 0, "ended": 0} == {"began": 0, "ended": 0, "seconds": 13.0, "sessions": 3, "killed": 1}  # fmt: skip


def test_no_folder_that_is_not_needed(output, monkeypatch):
    monkeypatch.setenv("HOME", str(output.parent.parent))
    run = read_back(output)
    error = f"StorageError: {output}.partial/labels: no room; {output.parent.parent}/elsewhere too"
    run.record["sessions"][0]["error"] = error
    found = provenance(run, read_manifest(output))
    assert found["sessions"][0]["error"] == "StorageError: out.zarr.partial/labels: no room; ~/elsewhere too"
    assert found["output"] == "out.zarr"
    found.pop("inputs"), found.pop("origin")  # these say where the input is
    assert str(output.parent) not in json.dumps(found)


@pytest.mark.parametrize(
    ("spoil", "kind", "says"),
    [
        (lambda path: path.unlink(), InputError, "says nothing of where it comes from"),
        (lambda path: path.write_bytes(b'{"format": 1'), StorageError, "is damaged"),
        (lambda path: path.write_text("[]"), StorageError, "does not say its format"),
        (lambda path: path.write_text('{"format": 1, "versions": {}}'), StorageError, "fingerprint, inputs"),
        (lambda path: path.write_text('{"format": 99}'), InputError, "of format 99, this bigbia reads 1"),
    ],
)
def test_what_cannot_be_read_is_told(output, spoil, kind, says):
    spoil(output / PROVENANCE)
    with pytest.raises(kind, match=says):
        read_provenance(output)
    with pytest.raises(kind, match=says):
        crate(output)
    assert not (output / NAME).exists()


def test_no_such_output(tmp_path):
    with pytest.raises(InputError, match="there is no such folder"):
        read_provenance(tmp_path / "nothing.zarr")


# ---- RO-Crate --------------------------------------------------------------------------------------------------------
def entities(output: Path, **options) -> dict[str, dict]:
    graph = json.loads(crate(output, **options).read_text())["@graph"]
    found = {entity["@id"]: entity for entity in graph}
    assert len(found) == len(graph), "an entity is told twice"
    return found


def references(value) -> list[str]:
    if isinstance(value, dict):
        return [value["@id"]] if set(value) == {"@id"} else [r for v in value.values() for r in references(v)]
    return [r for v in value for r in references(v)] if isinstance(value, list) else []


def test_a_crate_is_whole(output):
    """What RO-Crate 1.1 and Process Run Crate ask for."""
    found = entities(output)
    descriptor, root = found["ro-crate-metadata.json"], found["./"]
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert descriptor["about"] == {"@id": "./"}
    assert root["@type"] == "Dataset"
    assert root["name"] == "out.zarr"
    assert root["description"]
    assert datetime.fromisoformat(root["datePublished"])
    assert root["conformsTo"] == {"@id": "https://w3id.org/ro/wfrun/process/0.5"}
    assert "license" not in root
    known = {*found, "https://w3id.org/ro/crate/1.1", "http://schema.org/CompletedActionStatus"}
    for entity in found.values():
        assert entity["@type"]
        lost = set(references({k: v for k, v in entity.items() if k != "@id"})) - known
        assert not lost, f"{entity['@id']} names {lost}"
    for part in references(root["hasPart"]):
        assert (output / part).exists()
        assert found[part]["@type"] == "Dataset" if part.endswith("/") else "File" in found[part]["@type"]
        assert found[part]["encodingFormat"]


def test_a_crate_tells_the_run(output):
    found, manifest = entities(output), read_manifest(output)
    action = found["#run"]
    assert found["./"]["mentions"] == {"@id": "#run"}
    assert action["@type"] == "CreateAction"
    assert "agent" not in action
    assert found[action["instrument"]["@id"]]["name"] == "bigbia"
    assert found[action["instrument"]["@id"]]["softwareVersion"]
    assert {e["@id"] for e in action["result"]} == {"0/", "labels/nuclei/", "tables/nuclei.parquet"}
    assert [e["@id"] for e in action["object"]] == ["#input-1", "pipeline.yaml"]
    assert action["startTime"] <= action["endTime"]
    source = found["#input-1"]
    assert source["name"] == "cells.zarr/0", "the folders above are nobody's business"
    digest = found[source["identifier"]["@id"]]
    assert digest["value"] == next(iter(read_provenance(output)["inputs"].values()))
    assert found["#files-root"]["value"] == manifest["root"]


def test_a_crate_counts(output):
    found = entities(output)

    def figures(name: str) -> dict:
        return {found[r]["name"]: found[r]["value"] for r in references(found[name]["additionalProperty"])}

    labels = figures("labels/nuclei/")
    assert labels["shape"] == "z 12, y 30, x 32"
    assert labels["data type"] == "uint32"
    assert labels["files"] == read_manifest(output)["arrays"]["labels/nuclei/0"]
    assert labels["voxel size"] == "z 2, y 0.5, x 0.5 micrometer"
    table = figures("tables/nuclei.parquet")
    from bigbia.io.tables import read_table

    frame = read_table(output / "tables/nuclei.parquet")
    frame = frame.compute() if hasattr(frame, "compute") else frame
    assert table["rows"] == len(frame) > 0
    assert "area" in table["columns"]
    assert found["tables/nuclei.parquet"]["contentSize"] == str((output / "tables/nuclei.parquet").stat().st_size)


def test_a_crate_has_the_steps(output):
    found = entities(output)
    recipe = found["pipeline.yaml"]
    assert {"File", "SoftwareSourceCode", "HowTo"} == set(recipe["@type"])
    steps = [found[r] for r in references(recipe["step"])]
    assert [s["name"] for s in steps] == ["smooth", "mask", "nuclei", "table"]
    assert json.loads(steps[0]["text"]) == {"op": "filters.gaussian", "image": "input", "sigma": 1.5}
    assert steps[1]["text"] == "smooth > 90"


def test_a_license_is_given_not_made_up(output):
    assert entities(output, license="public domain")["./"]["license"] == "public domain"
    address = "https://creativecommons.org/publicdomain/zero/1.0/"
    found = entities(output, license=address)
    assert found["./"]["license"] == {"@id": address}
    assert found[address]["@type"] == "CreativeWork"


def test_a_crate_without_a_pipeline_of_hostile_names(tmp_path):
    """Names are text: JSON escapes them, and an identifier is a valid address."""
    out = tmp_path / 'a "b" <script>.zarr'
    bigbia.save(out, labels={"cells 100%": np.ones((4, 5), "u1")}, table_format="csv")
    write_provenance(out, provenance(read_back(out), read_manifest(out)))
    found = entities(out)
    assert found["./"]["name"] == out.name
    assert found["labels/cells%20100%25/"]["name"] == "labels/cells 100%"
    assert "pipeline.yaml" not in found
    assert all(re.fullmatch(r"[^\s\"<>\\]+", name) for name in found)


def test_only_what_was_published_becomes_a_crate(output):
    (output / "_bigbia/manifest.json").unlink()
    with pytest.raises(InputError, match="only an output that was published"):
        crate(output)


def test_a_crate_is_read_by_rocrate(output):
    rocrate = pytest.importorskip("rocrate.rocrate", reason="the package rocrate is not installed")
    crate(output)
    found = rocrate.ROCrate(str(output))
    assert found.root_dataset["name"] == "out.zarr"
    assert found.get("#run")["instrument"]["name"] == "bigbia"
    assert {e.id for e in found.get("#run")["result"]} == {"0/", "labels/nuclei/", "tables/nuclei.parquet"}
