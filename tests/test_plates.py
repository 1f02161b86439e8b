"""Plates, wells, fields, and groups of labels: what opens, what is listed, and every refusal."""

import json

import numpy as np
import pytest
import zarr
from images import multiscale, opened, refused, scaled, voxels, write_zarr

from bigbia.errors import InputError, ParameterError
from bigbia.hyperstack import channels, voxel_size
from bigbia.io.describing import describe
from bigbia.io.plates import fields_of, is_plate

SHAPE = (3, 8, 9)
pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")


def attributes(group, zarr_format, **ome):
    group.attrs.update({"ome": {"version": "0.5", **ome}} if zarr_format == 3 else ome)


def make_plate(path, wells, *, zarr_format=3, rows="AB", columns=("01", "02", "03"), images=("0",), runs=None):
    """A plate as other programs write it; every voxel of a field is its well's place times ten, plus its own."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    listed = [
        {"path": w, "rowIndex": rows.index(w.split("/")[0]), "columnIndex": columns.index(w.split("/")[1])}
        for w in wells
    ]
    plate = {
        "name": "screen", "rows": [{"name": r} for r in rows], "columns": [{"name": c} for c in columns],
        "wells": listed, "version": "0.4",
    }  # fmt: skip
    if runs:
        plate["acquisitions"] = [{"id": 1, "name": "day 1"}, {"id": 2, "name": "day 2"}]
    attributes(group, zarr_format, plate=plate)
    for place, well in enumerate(wells):
        inner = group.require_group(well)
        said = [{"path": p} | ({"acquisition": runs[i]} if runs else {}) for i, p in enumerate(images)]
        attributes(inner, zarr_format, well={"images": said, "version": "0.4"})
        for number, name in enumerate(images):
            where = path / well / name
            multiscale(where, [scaled(0.5, 0.2, 0.2)], shapes=[SHAPE], zarr_format=zarr_format)
            zarr.open_array(where / "0")[...] = 10 * place + number
    return path


@pytest.fixture(params=[2, 3], ids=["0.4", "0.5"])
def plate(request, tmp_path):
    wells = ["A/01", "A/03", "B/03"]
    return make_plate(tmp_path / "screen.zarr", wells, zarr_format=request.param, images=("0", "1"))


@pytest.mark.parametrize("name", ["B03", "B3", "B/3", "B/03", "b03", " B03 ", "B_3", "B/03/"])
def test_a_well_by_each_of_its_names(plate, name):
    image = opened(plate, well=name, field=1)
    assert image.dims == ("z", "y", "x")
    assert voxel_size(image) == {"z": 0.5, "y": 0.2, "x": 0.2}
    assert np.unique(image.values) == [21]
    assert image.name == "screen_B03_1"
    assert image.encoding["source"] == str(plate / "B/03/1")


def test_fields_by_number_and_name(tmp_path):
    path = make_plate(tmp_path / "p.zarr", ["A/01"], images=("5", "0_mip", "0"))
    for field, value in ((0, 0), ("5", 0), ("0_mip", 1), ("0", 2), (2, 2), ("1", 1)):
        assert np.unique(opened(path, well="A1", field=field).values) == [value], field
        assert np.unique(opened(path / "A/01", field=field).values) == [value], field
    refused(
        r"the well A01 of 3 fields \(5, 0_mip, 0\): open one, as in .*p.zarr/A/01/5, or field=\"5\"", path, well="A1"
    )
    refused(r"A/01: is a well of 3 \(5, 0_mip, 0\): open one", path / "A/01")
    for wrong in (3, -1, "x", True, 1.5, "", "../0"):
        refused(r"A/01 has 3 field\(s\) \(5, 0_mip, 0\)", path, ParameterError, well="A1", field=wrong)


def test_one_field_needs_no_word(tmp_path):
    path = make_plate(tmp_path / "p.zarr", ["A/01", "B/02"], images=("0",))
    assert np.unique(opened(path, well="B02").values) == [10]
    assert np.unique(opened(path / "B/02").values) == [10]
    assert np.unique(opened(path / "B/02/0").values) == [10]


def test_without_a_well_the_wells_are_listed(plate):
    refused(r'is a plate of 3 \(A/01, A/03, B/03\): open one, as in .*/A/01/0, or name the well: well="A01"', plate)
    many = [f"{row}/{column}" for row in "ABCDEFGH" for column in range(1, 13)]
    group = zarr.open_group(plate)
    said = dict(group.attrs.get("ome", group.attrs))
    said["plate"] = {"wells": [{"path": path} for path in many]}
    group.attrs.update({"ome": said} if "ome" in group.attrs else said)
    refused(r"is a plate of 96 \(A/1, A/2, .*, A/8, \.\.\.\)", plate)


def test_wells_and_fields_that_are_not_there(plate):
    refused(r"well='B02': .*screen.zarr has no such well; it has 3 \(near it: .*B03", plate, ParameterError, well="B02")
    refused(r"well='Z99': .* it has 3 \(A01, A03, B03\)", plate, ParameterError, well="Z99")
    for wrong in ("", "/", 3, True, "B"):
        refused("is no well: write|has no such well", plate, ParameterError, well=wrong)
    refused("well='B03': .*A/01 is a well itself: leave it out", plate / "A/01", ParameterError, well="B03")
    refused("scene=1: .* is not a file of several images", plate, ParameterError, well="B03", field=0, scene=1)


def test_well_and_field_of_what_is_no_plate(tmp_path):
    import tifffile

    image = multiscale(tmp_path / "x.zarr", [scaled(1, 1, 1)])
    write_zarr(tmp_path / "y.zarr", voxels())
    tifffile.imwrite(tmp_path / "z.tif", voxels())
    refused("well='B03': .*x.zarr is no plate and no well, it is an image", image, ParameterError, well="B03")
    refused("field=0: .*y.zarr is no plate and no well, it is an array", tmp_path / "y.zarr", ParameterError, field=0)
    refused("field=0: .*z.tif is no plate, it is TIFF", tmp_path / "z.tif", ParameterError, field=0)


def test_wells_that_zeros_do_not_tell_apart(tmp_path):
    path = make_plate(tmp_path / "p.zarr", ["A/3", "A/03"], columns=("3", "03"))
    assert np.unique(opened(path, well="A3").values) == [0]
    assert np.unique(opened(path, well="A03").values) == [10]
    refused("has 2 such wells: write the path of one, A/3, A/03", path, ParameterError, well="A003")


def test_the_path_of_a_well_counts_and_not_its_indices(tmp_path):
    path = make_plate(tmp_path / "p.zarr", ["A/01", "B/01"])
    group = zarr.open_group(path)
    ome = group.attrs["ome"]
    for well in ome["plate"]["wells"]:
        well["rowIndex"], well["columnIndex"] = 1, 7
    group.attrs["ome"] = ome
    assert np.unique(opened(path, well="B1").values) == [10]


def test_what_a_plate_promises_and_does_not_hold(plate):
    import shutil

    shutil.rmtree(plate / "A/01")
    refused(r"lists the well A01, and nothing is at .*A/01", plate, well="A1", field=0)
    shutil.rmtree(plate / "A/03/1")
    refused(r"A/03: lists the image '1', and nothing is at .*A/03/1", plate, well="A3", field=1)


def test_hostile_plates(plate):
    group = zarr.open_group(plate)
    newer = "ome" in group.attrs
    for wells, says in (
        ([], "is a plate that lists no wells"),
        ("A/1", "is a plate that lists no wells"),
        ([{"path": "../secret"}], "leaves the store: refused"),
        ([{"path": "/etc"}], "leaves the store: refused"),
        ([{}], "a plate's path is None"),
        ([3], "a plate's path is 3"),
        ([{"path": ["A"]}], "a plate's path is"),
    ):
        said = {"plate": {"wells": wells}}
        group.attrs.update({"ome": said} if newer else said)
        refused(says, plate, well="A01")
        refused(says, plate)
        with pytest.raises(InputError, match=says):
            fields_of(plate)
    well = zarr.open_group(plate / "A/01")
    for images in ([], None, "0", [{"path": "../../x"}], [{}]):
        said = {"well": {"images": images}}
        well.attrs.update({"ome": said} if newer else said)
        refused("lists no images|leaves the store|a well's path is", plate / "A/01")


def test_fields_of_a_plate(plate):
    assert is_plate(plate)
    assert not is_plate(plate / "A/01")
    assert not is_plate(plate / "A/01/0")
    assert not is_plate(plate / "nowhere")
    found = fields_of(plate)
    assert [(f.well, f.field, f.row, f.column) for f in found] == [
        ("A01", "0", "A", "01"), ("A01", "1", "A", "01"), ("A03", "0", "A", "03"), ("A03", "1", "A", "03"),
        ("B03", "0", "B", "03"), ("B03", "1", "B", "03"),
    ]  # fmt: skip
    assert [int(opened(f.path).values.max()) for f in found] == [0, 1, 10, 11, 20, 21]
    with pytest.raises(InputError, match="is no plate: name the folder whose metadata list the wells"):
        fields_of(plate / "A/01/0")


def test_fields_are_in_the_order_of_the_plate(tmp_path):
    path = make_plate(tmp_path / "p.zarr", ["B/10", "A/10", "B/2", "A/2"], columns=("1", "2", "10"))
    assert [f.well for f in fields_of(path)] == ["A2", "A10", "B2", "B10"]


def test_a_well_that_cannot_be_read_stays_on_the_list(plate):
    (plate / "A/03" / ("zarr.json" if (plate / "zarr.json").exists() else ".zattrs")).write_text("{")
    found = fields_of(plate)
    assert [(f.well, f.field) for f in found] == [
        ("A01", "0"), ("A01", "1"), ("A03", ""), ("B03", "0"), ("B03", "1")
    ]  # fmt: skip
    with pytest.raises(InputError, match="is not JSON"):
        opened(found[2].path)
    (problem,) = (p["problem"] for p in describe(plate)["problems"] if "well" in p["problem"])
    assert problem.startswith("1 well(s) listed that cannot be read")


def test_names_that_are_endless_numbers(tmp_path):
    path = make_plate(tmp_path / "p.zarr", ["A/01"])
    group = zarr.open_group(path)
    ome = group.attrs["ome"]
    ome["plate"]["wells"].append({"path": f"A/{'9' * 5000}"})
    group.attrs["ome"] = ome
    assert [f.field for f in fields_of(path)] == ["0", ""]
    refused("no such well", path, ParameterError, well="9" * 5000)


def test_acquisitions_are_told(tmp_path):
    path = make_plate(tmp_path / "p.zarr", ["A/01"], images=("0", "1"), runs=[1, 2])
    assert [f.acquisition for f in fields_of(path)] == [1, 2]
    refused(r"of 2 fields \(0 of acquisition 1, 1 of acquisition 2\)", path, well="A1")
    assert describe(path)["acquisitions"] == ["day 1 (1)", "day 2 (2)"]


def test_what_info_says_of_a_plate(plate):
    zarr.open_array(plate / "A/01/0/0")[...] = 5  # zeros are not stored
    found = describe(plate)
    assert found["kind"].startswith("OME-Zarr plate 0.")
    assert (found["rows"], found["columns"], found["wells"], found["fields"]) == (2, 3, ["A01", "A03", "B03"], 6)
    common = {"looked_at": 3, "axes": "zyx", "shape": list(SHAPE), "dtype": "uint16", "labels": []}
    assert common.items() <= found["images"].items()
    assert found["problems"] == []
    multiscale(
        plate / "B/03/1",
        [scaled(0.5, 0.2, 0.2)],
        shapes=[(5, 8, 9)],
        zarr_format=zarr.open_group(plate).metadata.zarr_format,
    )
    assert "its images differ in shape" in describe(plate)["problems"][0]["problem"]
    json.dumps(found)
    well = describe(plate / "A/01")
    assert (well["kind"], well["fields"]) == ("OME-Zarr well", ["0", "1"])
    assert describe(plate, well="A03", field="1")["path"] == str(plate / "A/03/1")


@pytest.mark.parametrize("zarr_format", [2, 3], ids=["0.4", "0.5"])
def test_groups_of_labels(tmp_path, zarr_format):
    path = multiscale(tmp_path / "x.zarr", [scaled(1, 1, 1)], zarr_format=zarr_format)
    group = zarr.open_group(path).create_group("labels")
    refused("labels: is a Zarr group without an image .*it holds nothing", path / "labels")
    attributes(group, zarr_format, labels=[])
    refused("labels: is a list of no label images; and nothing lies in it", path / "labels")
    multiscale(path / "labels/nuclei", [scaled(1, 1, 1)], zarr_format=zarr_format)
    refused("is a list of no label images; but nuclei lie in it: name one", path / "labels")
    attributes(group, zarr_format, labels=["nuclei"])
    refused(r"is a list of label images of 1 \(nuclei\): open one, as in .*labels/nuclei", path / "labels")
    assert opened(path / "labels/nuclei").dims == ("z", "y", "x")
    attributes(group, zarr_format, labels=["../../secret"])
    refused("leaves the store: refused", path / "labels")
    attributes(group, zarr_format, labels=[{"path": "nuclei"}])
    refused("a label's path is", path / "labels")


def test_labels_without_an_image(tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w").create_group("labels")
    multiscale(tmp_path / "x.zarr/labels/nuclei", [scaled(1, 1, 1)])
    group.attrs["ome"] = {"labels": ["nuclei"]}
    refused("is a Zarr group without an image .*it holds labels: name one of them", tmp_path / "x.zarr")
    assert opened(tmp_path / "x.zarr/labels/nuclei").shape == voxels().shape


def test_a_series_of_images_in_one_store(tmp_path):
    """bioformats2raw writes the images of a file as groups 0, 1, ..."""
    root = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    for number in range(2):
        multiscale(tmp_path / f"x.zarr/{number}", [scaled(1, 1, 1)], zarr_format=2, shapes=[(4 + number, 8, 9)])
    refused(r"x.zarr: holds 2 images \(0, 1\): open one, as in .*x.zarr/0, or by scene=\"0\"", tmp_path / "x.zarr")
    for scene in (1, "1"):
        image = opened(tmp_path / "x.zarr", scene=scene)
        assert (image.shape, image.name) == ((5, 8, 9), "x_1")
    refused(r"scene=2: .*x.zarr holds 2 images \(0, 1\)", tmp_path / "x.zarr", ParameterError, scene=2)
    refused("is not a file of several images", tmp_path / "x.zarr/0", ParameterError, scene=0)


def test_channels_have_their_colours(tmp_path):
    window = {"start": 10, "end": 200, "min": 0, "max": 255}
    entries = [
        {"label": "DAPI", "color": "0000ff", "window": window},
        {"label": "GFP", "color": "green", "window": {**window, "end": 5}},
        {"label": "GFP", "color": "00FF00", "window": {**window, "end": float("nan")}},
    ]
    path = multiscale(
        tmp_path / "x.zarr", [scaled(1, 1, 1)], axes="cyx", shapes=[(3, 4, 5)], omero={"channels": entries}
    )
    image = opened(path)
    assert channels(image) == ("DAPI", "GFP", "GFP (2)")
    assert image.encoding["display"] == {
        "DAPI": {"color": "0000FF", "window": (10.0, 200.0)},
        "GFP (2)": {"color": "00FF00"},
    }
    assert opened(path, channels=["GFP (2)", "GFP"]).encoding["display"] == {"GFP (2)": {"color": "00FF00"}}
    renamed = opened(path, channels=["a", "b", "c"]).encoding["display"]
    assert renamed == {"a": {"color": "0000FF", "window": (10.0, 200.0)}, "c": {"color": "00FF00"}}
    assert opened(multiscale(tmp_path / "y.zarr", [scaled(1, 1, 1)])).encoding["display"] == {}
    del entries[0]["label"]
    path = multiscale(
        tmp_path / "z.zarr", [scaled(1, 1, 1)], axes="cyx", shapes=[(3, 4, 5)], omero={"channels": entries}
    )
    assert opened(path, channels=[2, 0]).encoding["display"] == {
        "0": {"color": "00FF00"}, "1": {"color": "0000FF", "window": (10.0, 200.0)}
    }  # fmt: skip
