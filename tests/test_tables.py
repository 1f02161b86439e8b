"""Tables: written piece by piece, published whole, read back as they were."""

import json

import numpy as np
import pandas as pd
import pytest

import bigbia
from bigbia.errors import InputError, ParameterError, StorageError
from bigbia.hyperstack import hyperstack
from bigbia.io.tables import GROUP, read_table, write_table
from bigbia.run.about_tables import units_of
from bigbia.run.pipeline import Pipeline


def frames(count=3, rows=5):
    rng = np.random.default_rng(0)
    for i in range(count):
        yield pd.DataFrame(
            {
                "label": np.arange(i * rows + 1, (i + 1) * rows + 1, dtype="u4"),
                "area": rng.integers(1, 2**53, rows),
                "intensity_mean": rng.random(rows) / 3,
                "channel": ["DAPI"] * rows,
            }
        )


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_round_trip(tmp_path, suffix):
    path = tmp_path / "tables" / f"nuclei{suffix}"
    write_table(frames(), path, {"units": {"area": "um3"}})
    again = read_table(path)
    expected = pd.concat(list(frames()), ignore_index=True)
    pd.testing.assert_frame_equal(again, expected, check_dtype=suffix == ".parquet")
    assert again.attrs == {"units": {"area": "um3"}}
    beside = ["nuclei.csv-metadata.json"] if suffix == ".csv" else []
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, *beside]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_an_empty_table_keeps_its_columns(tmp_path, suffix):
    empty = next(frames()).iloc[:0]
    write_table([empty], tmp_path / f"t{suffix}")
    assert list(read_table(tmp_path / f"t{suffix}").columns) == list(empty.columns)
    write_table([empty, *frames(1)], tmp_path / f"u{suffix}")
    assert len(read_table(tmp_path / f"u{suffix}")) == 5


def test_small_pieces_become_large_row_groups(tmp_path):
    from pyarrow import parquet

    write_table(frames(40, GROUP // 8), tmp_path / "t.parquet")
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 5
    assert len(read_table(tmp_path / "t.parquet")) == 40 * (GROUP // 8)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_what_fails_leaves_nothing_and_keeps_what_was(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"

    def breaking():
        yield from frames(2)
        raise RuntimeError("a block failed")

    with pytest.raises(RuntimeError, match="a block failed"):
        write_table(breaking(), path)
    assert list(tmp_path.iterdir()) == []
    write_table(frames(1), path)
    with pytest.raises(ParameterError, match="part 1 of the table has columns"):
        write_table([*frames(1), pd.DataFrame({"label": [1]})], path)
    assert list(tmp_path.iterdir()) == [path]
    assert len(read_table(path)) == 5


def test_refused_tables(tmp_path):
    with pytest.raises(ParameterError, match=r"t.xlsx: a table is written as .parquet or .csv"):
        write_table(frames(), tmp_path / "t.xlsx")
    with pytest.raises(ParameterError, match="there is no table to write"):
        write_table([], tmp_path / "t.parquet")
    one, two = frames(2)
    with pytest.raises(ParameterError, match="part 1 of the table does not fit the types of the first"):
        write_table([one, two.assign(area=two.area + 0.5)], tmp_path / "t.parquet")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_table(frames(), tmp_path / "file/t.csv")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    (tmp_path / "bad.csv").write_bytes(b"")
    unreadable = "cannot be read as a table"
    cases = {"no.csv": "no such table", "x.xlsx": "is not a table", "bad.parquet": unreadable, "bad.csv": unreadable}
    for name, says in cases.items():
        with pytest.raises(InputError, match=says):
            read_table(tmp_path / name)


def test_units_stand_with_the_columns_of_a_parquet_file(tmp_path):
    from pyarrow import parquet

    write_table(frames(), tmp_path / "t.parquet", {"units": {"area": "um3", "no_column": "um"}})
    schema = parquet.read_schema(tmp_path / "t.parquet")
    assert schema.field("area").metadata == {b"unit": b"um3"}
    assert schema.field("label").metadata is None
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), read_table(tmp_path / "t.parquet"))


def test_what_stands_beside_a_csv_file(tmp_path):
    path = tmp_path / "t.csv"
    frame = pd.DataFrame({"label": np.array([1], "u4"), "centroid-0": [0.5], "name": ["a"], "good": [True]})
    write_table([frame], path, {"units": {"centroid-0": "um"}, "image": "cells.zarr"})
    beside = json.loads((tmp_path / "t.csv-metadata.json").read_bytes())
    assert (beside["@context"], beside["url"]) == ("http://www.w3.org/ns/csvw", "t.csv")
    assert beside["tableSchema"]["columns"] == [
        {"titles": "label", "datatype": "unsignedInt", "name": "label"},
        {"titles": "centroid-0", "datatype": "double", "schema:unitText": "um"},
        {"titles": "name", "datatype": "string", "name": "name"},
        {"titles": "good", "datatype": "boolean", "name": "good"},
    ]
    assert path.read_text() == "label,centroid-0,name,good\n1,0.5,a,True\n"
    assert read_table(path).attrs == {"units": {"centroid-0": "um"}, "image": "cells.zarr"}
    del beside["notes"]  # as another program writes it
    (tmp_path / "t.csv-metadata.json").write_text(json.dumps(beside))
    assert read_table(path).attrs == {"units": {"centroid-0": "um"}}
    for damaged in ("{", "[1]"):
        (tmp_path / "t.csv-metadata.json").write_text(damaged)
        with pytest.raises(InputError, match=r"t.csv-metadata.json: .* remove it to read the table"):
            read_table(path)
    write_table([frame], path)
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    assert read_table(path).attrs == {}


def test_attributes_of_the_parts_do_not_come_in(tmp_path):
    one, two = frames(2)
    one.attrs = {"of": "one"}
    write_table([one, two], tmp_path / "a.parquet", {"image": "x"})
    write_table(frames(2), tmp_path / "b.parquet", {"image": "x"})
    assert one.attrs == {"of": "one"}
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_table_says_where_it_comes_from(tmp_path, form):
    voxels = np.random.default_rng(0).integers(0, 900, (6, 20, 22)).astype("u2")
    image = hyperstack(voxels, "zyx", "0.5, 0.2, 0.2 um")
    source = bigbia.save(tmp_path / "in.zarr", image, chunks=8, levels=1)
    document = """
bigbia: 1
steps:
  mask: input > 450
  cells: {op: measure.label, label_image: mask}
  table: {op: measure.regionprops_table, label_image: cells, spacing: um, properties: [label, area, bbox, centroid]}
save:
  labels: {cells: cells}
  tables: {cells: table}
"""
    plan = Pipeline.parse(document)
    outputs = plan.outputs(plan.build(bigbia.open(source)))
    words = {"pipeline": plan.text, "origin": {"input": str(source), "options": {}}, "table_format": form, "chunks": 8}
    path = bigbia.save(tmp_path / "a.zarr", **outputs, **words)
    found = read_table(path / f"tables/cells.{form}").attrs
    assert found["image"] == "in.zarr"
    assert found["unit"] == "micrometer"
    assert {k: found["units"][k] for k in ("area", "centroid-0", "bbox-0")} == {
        "area": "um3", "centroid-0": "um", "bbox-0": "voxel",
    }  # fmt: skip
    assert found["step"]["name"] == "table"
    assert found["step"]["is"]["spacing"] == "um"
    assert list(found["inputs"]) == ["in.zarr/0"]
    assert found["versions"]["bigbia"] == bigbia.__version__
    assert str(tmp_path) not in json.dumps(found)
    assert bigbia.verify(path).ok
    again = bigbia.save(path, **outputs, **words, overwrite=True)  # all of it is taken over
    assert read_table(again / f"tables/cells.{form}").attrs == found
    assert bigbia.verify(again).ok
    assert {f.name for f in (again / "tables").iterdir()} == {f"cells.{form}"} | (
        {"cells.csv-metadata.json"} if form == "csv" else set()
    )


def test_tables_of_others_keep_what_they_say(tmp_path):
    table = pd.DataFrame({"label": [1], "area": [2.5]})
    table.attrs = {"unit": "micrometer", "object": object()}
    path = bigbia.save(tmp_path / "a.zarr", tables={"t": table})
    found = read_table(path / "tables/t.parquet").attrs
    assert found["unit"] == "micrometer"
    assert "object" not in found
    assert "units" not in found


@pytest.mark.parametrize(
    ("unit", "ndim", "expected"),
    [
        ("micrometer", 3, {"area": "um3", "centroid-1": "um", "inertia_tensor_eigvals-0": "um2", "bbox-5": "voxel"}),
        ("nanometer", 2, {"area": "nm2", "centroid-1": "nm", "inertia_tensor_eigvals-0": "nm2", "bbox-5": "voxel"}),
        (None, 3, dict.fromkeys(["area", "centroid-1", "inertia_tensor_eigvals-0", "bbox-5"], "voxel")),
    ],
)
def test_units_of_columns(unit, ndim, expected):
    assert (
        units_of(["label", "area", "centroid-1", "inertia_tensor_eigvals-0", "bbox-5", "extent"], unit, ndim)
        == expected
    )
