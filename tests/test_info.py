"""`bigbia info`: what is there, and what would be wrong with it, each with its remedy."""

import json
import shutil

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from images import SHAPE, multiscale, scaled, voxels, write_zarr

from bigbia import config
from bigbia.cli_info import info
from bigbia.errors import InputError
from bigbia.io.describing import describe

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")


def said(path, *words, code=0):
    """What the command prints."""
    result = CliRunner().invoke(info, [str(path), *words])
    if code is not None:
        assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def problems(path, **words):
    return "\n".join(f"{one['problem']} | {one['remedy']}" for one in describe(path, **words)["problems"])


@pytest.fixture
def good(tmp_path):
    """An image with which nothing is wrong."""
    window = {"start": 10, "end": 200, "min": 0, "max": 65535}
    omero = {
        "channels": [{"label": n, "color": c, "window": window} for n, c in (("DAPI", "0000FF"), ("GFP", "00FF00"))]
    }
    path = multiscale(
        tmp_path / "good.zarr",
        [scaled(2, 1, 0.5, 0.2, 0.2), scaled(2, 1, 1, 0.4, 0.4)],
        axes="tczyx",
        units=("second", None, "micrometer", "micrometer", "micrometer"),
        shapes=[(2, 2, 6, 10, 12), (2, 2, 3, 5, 6)],
        omero=omero,
    )
    for level in "01":
        zarr.open_array(path / level)[...] = 3
    labels = zarr.open_group(path).create_group("labels")
    labels.attrs["ome"] = {"version": "0.5", "labels": ["nuclei"]}
    multiscale(path / "labels/nuclei", [scaled(0.5, 0.2, 0.2)])
    return path


def change(path, edit):
    """Changes what the group says of its image."""
    group = zarr.open_group(path)
    ome = group.attrs["ome"]
    edit(ome)
    group.attrs["ome"] = ome


def test_a_good_image_as_a_person_reads_it(good):
    assert said(good).splitlines() == [
        str(good),
        "  kind        OME-Zarr 0.5",
        "  size        t 2, c 2, z 6, y 10, x 12",
        "  values      uint16",
        "  voxel size  z 0.5, y 0.2, x 0.2 micrometer",
        "  time step   2 second",
        "  channel 0   DAPI  #0000FF  shown from 10 to 200",
        "  channel 1   GFP  #00FF00  shown from 10 to 200",
        "  chunks      2 x 2 x 6 x 10 x 12",
        "  level 0     2 x 2 x 6 x 10 x 12",
        "  level 1     2 x 2 x 3 x 5 x 6, voxels of 1 x 0.4 x 0.4",
        "  labels      nuclei",
        f"  bytes       {describe(good)['bytes']} B stored, 5.6 KiB in memory",
    ]
    found = json.loads(said(good, "--json"))
    assert found["problems"] == []
    assert found["display"]["GFP"] == {"color": "00FF00", "window": [10.0, 200.0]}
    assert found["levels"][1] == {"path": "1", "shape": [2, 2, 3, 5, 6], "voxel_size": {"z": 1.0, "y": 0.4, "x": 0.4}}


def first(ome):
    return ome["multiscales"][0]


WRONG = {
    "no version": (lambda o: o.pop("version"), 'have no version | write "version": "0.5"'),
    "two images": (lambda o: o["multiscales"].append(first(o)), "describes 2 multiscale images"),
    "axes in another order": (
        lambda o: first(o)["axes"].insert(0, first(o)["axes"].pop(1)),
        "its axes c t z y x are not in the order time, channel, space",
    ),
    "space in another order": (
        lambda o: first(o)["axes"].insert(2, first(o)["axes"].pop(3)),
        "its axes of space are y z x, most programs expect z y x",
    ),
    "axes without types": (lambda o: first(o)["axes"][0].pop("type"), "1 axis without a type (t)"),
    "a unit of its own": (lambda o: first(o)["axes"][4].update(unit="smoot"), "its unit 'smoot' is none of the OME"),
    "no unit": (
        lambda o: [axis.pop("unit", None) for axis in first(o)["axes"][2:]],
        "the voxel size has no unit | pass voxel_size=",
    ),
    "no scale": (
        lambda o: [d.pop("coordinateTransformations") for d in first(o)["datasets"]],
        "voxels have no size, so lengths cannot be given in a unit | pass voxel_size=",
    ),
    "a scale too short": (
        lambda o: first(o)["datasets"][0]["coordinateTransformations"][0].update(scale=[1, 1]),
        "level 0 has a scale [1, 1] for 5 axes",
    ),
    "a scale that lies": (
        lambda o: first(o)["datasets"][1]["coordinateTransformations"][0].update(scale=[2, 1, 1, 1.2, 0.4]),
        "level 1 is 2 x 2 x 3 x 5 x 6, which its voxel size does not say of axis y",
    ),
    "a level that is not there": (
        lambda o: first(o)["datasets"].append({**first(o)["datasets"][1], "path": "2"}),
        "1 level listed and not there (2) | restore them",
    ),
    "too many channels": (
        lambda o: o["omero"]["channels"].append(o["omero"]["channels"][0]),
        "it has 2 channels, and its metadata describe 3: their names are left aside",
    ),
    "one name twice": (lambda o: o["omero"]["channels"][0].update(label="GFP"), "several channels are called 'GFP'"),
    "a colour by name": (lambda o: o["omero"]["channels"][1].update(color="green"), "channel 1 has the colour 'green'"),
    "no window": (lambda o: o["omero"]["channels"][1].pop("window"), "channel 1 has no whole window"),
    "omero without channels": (lambda o: o.update(omero={}), "its omero block lists no channels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_metadata(good, name):
    edit, says = WRONG[name]
    change(good, edit)
    assert says in problems(good)
    assert "to know or to mend:" in said(good)


def test_levels_that_do_not_fit(good):
    shutil.rmtree(good / "1")
    zarr.open_group(good).create_array("1", shape=(2, 2, 9, 5, 6), chunks=(1, 1, 9, 5, 6), dtype="u2")
    assert "level 1 of 2 x 2 x 9 x 5 x 6 does not fit level 0 of 2 x 2 x 6 x 10 x 12" in problems(good)


def test_labels_that_are_not_what_the_list_says(good):
    multiscale(good / "labels/cells", [scaled(0.5, 0.2, 0.2)])
    assert "1 label image in labels/ and not listed (cells)" in problems(good)
    shutil.rmtree(good / "labels/nuclei")
    assert "1 label image listed and not there (nuclei)" in problems(good)
    change(good / "labels", lambda ome: ome.update(labels=["../../x"]))
    with pytest.raises(InputError, match=r"label path '../../x' leaves the store: refused"):
        describe(good)


def test_voxel_sizes_that_are_missing_or_look_unset(tmp_path):
    ones = multiscale(tmp_path / "x.zarr", [scaled(1, 1, 1)], units=(None,) * 3)
    assert "voxels have size 1 without a unit, as where it was never set" in problems(ones)
    words = {"imagej": True, "resolution": (5, 5), "metadata": {"axes": "ZYX", "unit": "um"}}
    tifffile.imwrite(tmp_path / "x.tif", voxels(), **words)
    assert "voxels have a size along y x and none along z: they may be anisotropic" in problems(tmp_path / "x.tif")
    write_zarr(tmp_path / "y.zarr", voxels())
    assert "nothing says which axes its shape 11 x 17 x 23 has | pass axes" in problems(tmp_path / "y.zarr")


def test_chunks(tmp_path, monkeypatch):
    array = write_zarr(tmp_path / "x.zarr", voxels() + 1, dimension_names=("z", "y", "x"))
    shutil.rmtree(tmp_path / "x.zarr/c/0")
    assert "9 of 27 chunks are absent and read as the fill value" in problems(tmp_path / "x.zarr")
    assert "  missing     9 of 27 chunks" in said(tmp_path / "x.zarr")
    monkeypatch.setattr(config, "memory", lambda: 100)
    assert "one chunk of 4 x 7 x 8 is 4.17e-07 GiB and is read as a whole" in problems(tmp_path / "x.zarr")
    monkeypatch.undo()
    import bigbia.io.problems as module

    monkeypatch.setattr(module, "MANY", 20)
    assert "it is 27 files of less than 64 KiB each" in problems(tmp_path / "x.zarr")
    monkeypatch.setattr(module, "HUGE", 100)
    assert "one chunk of 4 x 7 x 8 is 0 MiB, which every read of it decodes" in problems(tmp_path / "x.zarr")
    assert array.shape == SHAPE
    write_zarr(tmp_path / "y.zarr", voxels().astype(">u2"), 2)
    assert "its voxels are stored big-endian" in problems(tmp_path / "y.zarr")


def test_older_versions(tmp_path):
    path = multiscale(tmp_path / "x.zarr", [scaled(1, 1, 1)], zarr_format=2)
    group = zarr.open_group(path)
    found = group.attrs["multiscales"]
    found[0]["version"] = "0.3"
    group.attrs["multiscales"] = found
    assert "it is of a version before 0.4" in problems(path)


def test_a_tiff_of_several_images(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.ome.tif", ome=True) as tif:
        tif.write(voxels((8, 9)), metadata={"Name": "overview"})
        tif.write(voxels((5, 4)), metadata={"Name": "detail"})
    assert "  scenes      overview, detail" in said(tmp_path / "x.ome.tif")
    found = json.loads(said(tmp_path / "x.ome.tif", "--scene", "detail", "--json"))
    assert (found["shape"], found["scenes"]) == ([5, 4], ["overview", "detail"])


def test_broken_stores_say_what_they_can(good, tmp_path):
    shutil.rmtree(good / "0")
    text = said(good, code=3)
    assert "  kind        OME-Zarr that cannot be opened" in text
    assert "  level 0     0: not there" in text
    assert "  level 1     2 x 2 x 3 x 5 x 6, " in text or "  level 1     2 x 2 x 3 x 5 x 6\n" in text
    assert "level 0 should be at '0', and no array is there" in text
    assert json.loads(said(good, "--json", code=3))["opens"] is False
    change(good, lambda ome: ome.update(multiscales=[]))
    assert "its multiscales are empty" in said(good, code=3)
    write_zarr(tmp_path / "y.zarr", voxels())
    meta = json.loads((tmp_path / "y.zarr/zarr.json").read_text())
    (tmp_path / "y.zarr/zarr.json").write_text(json.dumps(meta | {"data_type": "complex64"}))
    assert "its voxels are complex64: store their magnitude" in said(tmp_path / "y.zarr", code=3)


@pytest.mark.parametrize("name", ["nowhere.zarr", "text.tif", "folder", ""])
def test_what_nothing_can_be_said_of(tmp_path, name):
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "folder").mkdir()
    result = CliRunner().invoke(info, [str(tmp_path / name) if name else ""])
    assert isinstance(result.exception, ValueError)
    assert result.stdout == ""


def test_mismatched_axes(tmp_path):
    path = multiscale(tmp_path / "x.zarr", [scaled(1, 1)], axes="yx")
    assert "has 3 axes, the image's metadata name 2 (y x) | restore them" in problems(path)


def test_plates_and_wells(tmp_path):
    from test_plates import make_plate

    path = make_plate(tmp_path / "p.zarr", ["A/01", "B/02"], images=("0", "1"))
    zarr.open_array(path / "A/01/0/0")[...] = 7
    assert said(path).splitlines() == [
        str(path),
        "  kind        OME-Zarr plate 0.5",
        "  name        screen",
        "  plate       2 rows x 3 columns, 2 wells, 4 fields",
        "  wells       A01, B02",
        "  looked at   3 of its images, which have in common:",
        "  size        z 3, y 8, x 9",
        "  values      uint16",
        "  voxel size  z 0.5, y 0.2, x 0.2 micrometer",
    ]
    assert "  fields  0, 1" in said(path / "A/01").replace("      ", "  ")
    assert f"{path}/B/02/1" in said(path, "--well", "B2", "--field", "1").splitlines()[0]
    np.testing.assert_array_equal(json.loads(said(path, "--json"))["images"]["shape"], [3, 8, 9])


ODD = [
    None, True, -1, 0, 1.5, float("nan"), 10**400, "", "x", "../..", "a\nb", "\x1b[31m", [], [None], ["x"], {}, {"a": 1},
    [[]], [{}], "0", "A/01",
]  # fmt: skip


def places(value, at=()):
    """Every place within a document."""
    if at:
        yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(inner):
        yield from places(one, (*at, key))


def test_json_that_is_not_ngff(good, tmp_path):
    """One value after another of the metadata replaced by something odd: refused in one line, or described."""
    import copy
    import random

    from images import opened
    from test_plates import make_plate

    from bigbia.cli_show import described
    from bigbia.errors import BigbiaError
    from bigbia.io.plates import fields_of

    plate = make_plate(tmp_path / "p.zarr", ["A/01"], images=("0", "1"), runs=[1, 2])
    calls = {
        good / "zarr.json": [lambda: opened(good), lambda: opened(good / "0"), lambda: described(describe(good))],
        good / "labels/zarr.json": [lambda: opened(good / "labels"), lambda: described(describe(good))],
        plate / "zarr.json": [
            lambda: fields_of(plate),
            lambda: opened(plate, well="A1", field=0),
            lambda: describe(plate),
        ],
        plate / "A/01/zarr.json": [lambda: fields_of(plate), lambda: opened(plate, well="A1", field=0)],
    }
    rng, answers = random.Random(0), []
    for document, asked in calls.items():
        whole = json.loads(document.read_text())
        for at in rng.sample(sorted(places(whole), key=str), 25) if len(list(places(whole))) > 25 else places(whole):
            changed = copy.deepcopy(whole)
            holder = changed
            for key in at[:-1]:
                holder = holder[key]
            holder[at[-1]] = copy.deepcopy(rng.choice(ODD))
            document.write_text(json.dumps(changed))
            for ask in asked:
                try:
                    ask()
                    answers.append("")
                except BigbiaError as error:
                    answers.append(str(error))
        document.write_text(json.dumps(whole))
    refusals = list(filter(None, answers))
    assert len(refusals) > 20
    assert len(refusals) < len(answers)
    assert not [said for said in refusals if "\n" in said or "\x1b" in said]
