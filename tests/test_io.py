"""`open` and `describe`: real files, what the user says, remote stores, and every refusal."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from images import DATA, SHAPE, check_source, multiscale, opened, refused, scaled, voxels, write_zarr

from bigbia.errors import BigbiaWarning, InputError, ParameterError
from bigbia.hyperstack import channels, origin, time_step, unit, voxel_size
from bigbia.io.opening import describe
from bigbia.io.opening import open as open_image
from bigbia.io.places import Place
from bigbia.io.zarr_source import find_node

TIFFS = sorted(DATA.rglob("*.tif"))
MULTISCALES = sorted(
    folder
    for folder in DATA.rglob("*.zarr")
    if any("multiscales" in p.read_text() and (folder / "0").is_dir() for p in folder.glob("[.z]*") if p.is_file())
)
pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
no_data = pytest.mark.skipif(not TIFFS, reason=f"no images under {DATA}: set BIGBIA_TEST_DATA")
named = {"ids": lambda p: str(p.relative_to(DATA)) if isinstance(p, Path) else None}


@no_data
@pytest.mark.parametrize("path", TIFFS, **named)
def test_real_tiffs(path, sources):
    image = opened(path)
    expected = tifffile.imread(path)
    np.testing.assert_array_equal(image.values, expected)
    assert set(image.dims) <= set("tczyx")
    check_source(sources[0], expected)


@no_data
@pytest.mark.parametrize("path", MULTISCALES, **named)
def test_real_ome_zarr(path, sources):
    node = find_node(Place(path))
    ome = node.attributes.get("ome", node.attributes)["multiscales"][0]
    for level, dataset in enumerate(ome["datasets"]):
        if not (path / dataset["path"]).is_dir():
            with pytest.raises(InputError, match="no array is there"):
                open_image(path, level)
            continue
        expected = zarr.open_array(path / dataset["path"], mode="r")[:]
        if expected.ndim != len(ome["axes"]):
            with pytest.raises(InputError, match="has 2 axes, the image's metadata name 3"):
                open_image(path, level)
            assert opened(path, level=level, axes="yx").shape == expected.shape
            continue
        image = opened(path, level=level)
        np.testing.assert_array_equal(image.values, expected)
        assert list(image.dims) == [axis["name"] for axis in ome["axes"]]
        scale = dataset["coordinateTransformations"][0]["scale"]
        assert voxel_size(image) == {a: s for a, s in zip(image.dims, scale) if a in "zyx"}
        directly = opened(path / dataset["path"])
        assert (directly.dims, voxel_size(directly), unit(directly)) == (image.dims, voxel_size(image), unit(image))
    check_source(sources[0], opened(path).values)


@no_data
def test_real_labels_plate_and_series():
    image = opened(DATA / "ngio_ome_zarr/v05/images/test_image_tczyx.zarr")
    assert (voxel_size(image), unit(image)) == ({"z": 1.0, "y": 0.5, "x": 0.5}, "micrometer")
    assert channels(image) == ("channel_0", "channel_1")
    assert time_step(image) == (1.0, "second")
    labels = opened(DATA / "ngio_ome_zarr/v05/images/test_image_tczyx.zarr/labels/label")
    assert labels.dims == ("t", "z", "y", "x")
    series = opened(DATA / "viv_fixtures/bioformats-zarr/data.zarr")  # its image is in the group 0
    assert series.dims == ("t", "c", "z", "y", "x")
    assert series.name == "data"
    well = opened(DATA / "ome_zarr_examples/valid/plate-01.zarr/B/2/0")
    assert well.dims == ("y", "x")


@no_data
def test_the_demo_file_is_taken_as_zyx_and_this_is_said():
    path = DATA / "cells3d_nuclei/nuclei.tif"
    with pytest.warns(
        BigbiaWarning, match=r"nuclei.tif: nothing says which axes shape \(60, 256, 256\) has: taken as zyx"
    ) as said:
        image = open_image(path)
    assert said[0].filename == __file__
    assert "voxels have no size" in str(said[0].message)
    assert image.dims == ("z", "y", "x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = open_image(path, axes="zyx", voxel_size="0.29, 0.26, 0.26 um", block=(16, 64, 64))
    assert voxel_size(image) == {"z": 0.29, "y": 0.26, "x": 0.26}
    assert image.data.chunksize == (16, 64, 64)
    assert opened(path, block=32).data.chunksize == (32, 32, 32)


def test_plain_arrays_say_their_axes_by_their_dimension_names(tmp_path):
    write_zarr(tmp_path / "x.zarr", voxels(), dimension_names=("T", "Y", "X"))
    array = write_zarr(tmp_path / "v2.zarr", voxels(), 2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["channel", "y", "x"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", BigbiaWarning)
        assert open_image(tmp_path / "x.zarr").dims == ("t", "y", "x")
        assert open_image(tmp_path / "v2.zarr").dims == ("c", "y", "x")
        assert open_image(tmp_path / "x.zarr", axes="zyx").dims == ("z", "y", "x")


@pytest.mark.parametrize(
    ("given", "size", "name"),
    [
        ("0.29, 0.26, 0.26 um", {"z": 0.29, "y": 0.26, "x": 0.26}, "micrometer"),
        ("300 nm", {"z": 300.0, "y": 300.0, "x": 300.0}, "nanometer"),
        ({"z": "0.29 um", "y": "0.26 um", "x": "260 nm"}, {"z": 0.29, "y": 0.26, "x": 0.26}, "micrometer"),
        ((2, 1, 1), {"z": 2.0, "y": 1.0, "x": 1.0}, None),
        (["0.5 um", "0.1 um", "0.1 um"], {"z": 0.5, "y": 0.1, "x": 0.1}, "micrometer"),
    ],
)
def test_voxel_size_of_the_user(tmp_path, given, size, name):
    write_zarr(tmp_path / "x.zarr", voxels())
    image = opened(tmp_path / "x.zarr", voxel_size=given)
    assert (voxel_size(image), unit(image)) == (size, name)


def test_override_at_a_coarser_level_is_of_the_full_resolution(tmp_path):
    path = multiscale(
        tmp_path / "x.zarr", [scaled(1, 1, 1), scaled(1, 2, 2)], shapes=[(4, 8, 8), (4, 4, 4)], units=(None,) * 3
    )
    assert voxel_size(opened(path, level=1)) == {"z": 1.0, "y": 2.0, "x": 2.0}
    assert voxel_size(opened(path, level=1, voxel_size="0.5, 0.2, 0.2 um")) == {"z": 0.5, "y": 0.4, "x": 0.4}


def test_units_that_differ_and_transforms_in_two_places(tmp_path):
    moved = [{"type": "scale", "scale": [300, 0.2, 0.2]}, {"type": "translation", "translation": [600, 1, 2]}]
    path = multiscale(tmp_path / "x.zarr", [moved], units=("nanometer", "micrometer", "micrometer"))
    image = opened(path)
    assert (voxel_size(image), unit(image)) == ({"z": 0.3, "y": 0.2, "x": 0.2}, "micrometer")
    assert origin(image) == {"z": 0.6, "y": 1.0, "x": 2.0}
    group = zarr.open_group(path)
    ome = group.attrs["ome"]
    ome["multiscales"][0]["coordinateTransformations"] = scaled(2, 2, 2)
    group.attrs["ome"] = ome
    assert voxel_size(opened(path)) == {"z": 0.6, "y": 0.4, "x": 0.4}


def test_transforms_that_are_not_understood_are_said(tmp_path):
    path = multiscale(tmp_path / "x.zarr", [[{"type": "affine", "affine": []}]])
    with pytest.warns(
        BigbiaWarning, match="'affine' is neither scale nor translation: left aside, voxels have no size"
    ):
        assert voxel_size(open_image(path)) is None
    path = multiscale(tmp_path / "y.zarr", [scaled(1, 0, 1)])
    with pytest.warns(BigbiaWarning, match=r"its scale \[1, 0, 1\] does not fit 3 axes"):
        assert voxel_size(open_image(path)) is None
    assert voxel_size(opened(path, voxel_size="1 um")) == {"z": 1.0, "y": 1.0, "x": 1.0}


def test_channels(tmp_path):
    omero = {"channels": [{"label": "DAPI"}, {"label": "GFP"}, {"label": "GFP"}]}
    path = multiscale(tmp_path / "x.zarr", [scaled(1, 1, 1)], axes="cyx", shapes=[(3, 4, 5)], omero=omero)
    assert channels(opened(path)) == ("DAPI", "GFP", "GFP (2)")
    whole = opened(path).values
    for chosen, index in (("GFP", [1]), (["GFP (2)", "DAPI"], [2, 0]), (1, [1]), ([0, 2], [0, 2])):
        image = opened(path, channels=chosen)
        assert image.dims == ("c", "y", "x")
        np.testing.assert_array_equal(image.values, whole[index])
    assert channels(opened(path, channels=["a", "b", "c"])) == ("a", "b", "c")
    for wrong, says in (
        ("GFX", "channels='GFX': there is no channel 'GFX', did you mean 'GFP'"),
        (["DAPI", "b", "c"], "there is no channel 'b'"),
        (3, "the image has 3 channels, 0 to 2"),
        ([0, 0], "every channel once"),
        ([], "every channel once"),
        (1.5, "1.5"),
    ):
        with pytest.raises(ParameterError, match=says):
            opened(path, channels=wrong)
    write_zarr(tmp_path / "z.zarr", voxels())
    with pytest.raises(ParameterError, match="the image has no axis c"):
        opened(tmp_path / "z.zarr", channels=["a"])
    with pytest.raises(ParameterError, match="11 channels without names"):
        opened(tmp_path / "z.zarr", axes="cyx", channels=["a"])


@pytest.fixture
def memory():
    """An object store: fsspec's own, in memory."""
    import fsspec

    fs = fsspec.filesystem("memory")
    yield "memory://bucket"
    if fs.exists("/bucket"):
        fs.rm("/bucket", recursive=True)


@pytest.mark.parametrize("words", [{}, {"shards": (8, 14, 16)}], ids=["chunks", "shards"])
def test_remote_zarr(memory, words, sources):
    store = zarr.storage.FsspecStore.from_url(f"{memory}/x.zarr")
    array = write_zarr(store, voxels(), config={"write_empty_chunks": True}, **words)
    image = opened(f"{memory}/x.zarr", voxel_size="1 um")
    np.testing.assert_array_equal(image.values, voxels())
    check_source(sources[0], voxels())
    assert opened(f"{memory}/x.zarr") is not None
    assert sources[1].token == sources[0].token
    array[0, 0, 0] = 999
    opened(f"{memory}/x.zarr")
    assert sources[2].token != sources[0].token
    assert describe(f"{memory}/x.zarr")["missing_chunks"] == {"absent": 0, "total": 8 if words else 27}


def test_remote_ome_zarr_and_its_refusals(memory):
    store = zarr.storage.FsspecStore.from_url(f"{memory}/x.zarr")
    multiscale(store, [scaled(0.3, 0.2, 0.2)])
    assert voxel_size(opened(f"{memory}/x.zarr")) == {"z": 0.3, "y": 0.2, "x": 0.2}
    assert voxel_size(opened(f"{memory}/x.zarr/0")) == {"z": 0.3, "y": 0.2, "x": 0.2}
    store.fs.sync_fs.rm("/bucket/x.zarr/0/c", recursive=True) if hasattr(store.fs, "sync_fs") else None
    with pytest.raises(InputError, match=r"memory://bucket/y.zarr: there is nothing: check the address"):
        open_image(f"{memory}/y.zarr")
    with pytest.raises(ParameterError, match="cannot be reached"):
        open_image("parsnip://bucket/y.zarr")


def test_remote_missing_chunk(memory):
    store = zarr.storage.FsspecStore.from_url(f"{memory}/x.zarr")
    write_zarr(store, voxels() + 1)
    import fsspec

    fsspec.filesystem("memory").rm("/bucket/x.zarr/c/1/2/0")
    with pytest.raises(InputError, match="chunk c/1/2/0 is missing"):
        opened(f"{memory}/x.zarr", on_missing="error").values  # noqa: B018


def test_remote_tiff(memory, tmp_path, sources):
    import fsspec

    tifffile.imwrite(tmp_path / "x.tif", voxels(), compression="zlib")
    with fsspec.open(f"{memory}/x.tif", "wb") as file:
        file.write((tmp_path / "x.tif").read_bytes())
    np.testing.assert_array_equal(opened(f"{memory}/x.tif").values, voxels())
    check_source(sources[0], voxels())


def test_refused_paths(tmp_path):
    (tmp_path / "cells.tif").write_bytes(b"not a tiff")
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "broken.tif").write_bytes(b"II*\0" + bytes(8))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.tif").write_bytes(b"")
    refused("cell.tif: there is nothing, did you mean 'cells.tif'", tmp_path / "cell.tif")
    refused("does not exist either", tmp_path / "nowhere/cells.tif")
    refused("is not an image: a file that begins with b'not a ti'; bigbia opens OME-Zarr", tmp_path / "cells.tif")
    refused("is not an image: an empty file", tmp_path / "empty.tif")
    refused("broken.tif", tmp_path / "broken.tif")
    refused("a PNG picture: save it as TIFF", tmp_path / "picture.png")
    refused(r"a folder without Zarr metadata, holding 1 entries \(a.tif\)", tmp_path / "folder")
    refused("path='': is not a path", "", ParameterError)
    refused("path=3: is not a path", 3, ParameterError)


def test_refused_groups(tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    refused("is a Zarr group without an image .*it holds nothing", tmp_path / "x.zarr")
    group.create_group("cells")
    refused("it holds cells: name one of them", tmp_path / "x.zarr")
    group.attrs["ome"] = {"plate": {"wells": [{"path": "A/1"}, {"path": "B/1"}]}}
    refused(r"is a plate of 2 \(A/1, B/1\): open one, as in .*x.zarr/A/1/0", tmp_path / "x.zarr")
    group.attrs["ome"] = {"well": {"images": [{"path": "0"}]}}
    refused(r"lists the image '0', and nothing is at .*x.zarr/0", tmp_path / "x.zarr")
    group.attrs["ome"] = {"well": {"images": [{"path": "0"}, {"path": "1"}]}}
    refused(r"is a well of 2 \(0, 1\): open one", tmp_path / "x.zarr")
    group.attrs["ome"] = {"labels": ["nuclei"]}
    refused(r"is a list of label images of 1 \(nuclei\): open one, as in .*/nuclei", tmp_path / "x.zarr")


def test_refused_words(tmp_path):
    path = multiscale(tmp_path / "x.zarr", [scaled(1, 1, 1), scaled(1, 2, 2)], shapes=[SHAPE])
    refused(r"level=2: has 2 level\(s\), 0 to 1", path, ParameterError, level=2)
    refused("level=-1", path, ParameterError, level=-1)
    refused("level='a': is not a whole number", path, ParameterError, level="a")
    refused("level 1 should be at '1', and no array is there", path, level=1)
    refused("level=1: is a single array", path / "0", ParameterError, level=1)
    refused("on_missing='fil': did you mean 'fill'", path, ParameterError, on_missing="fil")
    refused("axes='zy': 2 names for the 3 axes", path, ParameterError, axes="zy")
    refused("voxel_size='0.3': a length in words needs a unit", path, ParameterError, voxel_size="0.3")
    refused("2 numbers for 3 spatial axes", path, ParameterError, voxel_size="1, 2 um")
    refused("the other axes are in micrometer: give a unit", path, ParameterError, voxel_size={"z": 1})


def test_four_axes_must_be_told(tmp_path):
    write_zarr(tmp_path / "x.zarr", voxels((2, 3, 4, 5)), chunks=(1, 3, 4, 5))
    tifffile.imwrite(tmp_path / "x.tif", voxels((2, 3, 4, 5)))
    for name in ("x.zarr", "x.tif"):
        refused(
            rf'{name}: nothing says which axes shape \(2, 3, 4, 5\) has: pass axes, .*axes="tzyx"',
            tmp_path / name,
            ParameterError,
        )
        assert opened(tmp_path / name, axes="tcyx").dims == ("t", "c", "y", "x")


def chunked(shape):
    return {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shape": [4, -4, 4]}, r"shape \[4, -4, 4\] is not a list of lengths"),
        ({"shape": "many"}, "shape 'many' is not a list of lengths"),
        ({"shape": [4, 0, 4]}, r"axis 1 of shape \(4, 0, 4\) is empty"),
        ({"shape": []}, "is a single value"),
        ({"shape": [2] * 6}, "has 6 axes"),
        ({"shape": [2**60, 4, 4]}, "is longer than 16777216 voxels"),
        ({"shape": [2**20, 2**20, 4]}, r"is 3.93e\+10 files, at most 1e\+09 are opened"),
        ({"data_type": "complex64"}, "its voxels are complex64: store their magnitude"),
        ({"data_type": "string"}, "its values are 'string': bigbia reads bool, integers and floats"),
        ({"data_type": {"name": "struct"}}, "its values are 'struct'"),
        (chunked([0, 4, 4]), r"chunks \[0, 4, 4\] do not fit 3 axes"),
        (chunked([4, 4]), r"chunks \[4, 4\] do not fit 3 axes"),
        (chunked([4, 4, 10**400]), r"chunks \[4, 4, 1000.* is not a list of lengths"),
        ({"fill_value": []}, "zarr cannot open it"),
        ({"fill_value": {}}, "zarr cannot open it"),
        (chunked([2**15] * 3), "one chunk of .* is 6.55e[+]04 GiB"),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "codec 'numcodecs.pickle' is refused"),
        ({"codecs": []}, "its Zarr metadata is not complete"),
        ({"chunk_grid": None}, "its Zarr metadata is not complete"),
        ({"zarr_format": 4}, "is not Zarr metadata"),
    ],
)  # fmt: skip
def test_hostile_arrays(tmp_path, change, says):
    write_zarr(tmp_path / "x.zarr", voxels())
    meta = json.loads((tmp_path / "x.zarr/zarr.json").read_text())
    (tmp_path / "x.zarr/zarr.json").write_text(json.dumps(meta | change))
    refused(says, tmp_path / "x.zarr")


@pytest.mark.parametrize(
    ("dtype", "says"), [("|O", "its values are object"), ("<c8", "complex64"), ("<M8[s]", "datetime64")]
)
def test_hostile_arrays_of_version_2(tmp_path, dtype, says):
    write_zarr(tmp_path / "x.zarr", voxels(), 2)
    meta = json.loads((tmp_path / "x.zarr/.zarray").read_text())
    (tmp_path / "x.zarr/.zarray").write_text(json.dumps(meta | {"dtype": dtype}))
    refused(says, tmp_path / "x.zarr")
    (tmp_path / "x.zarr/.zarray").write_text(json.dumps(meta | {"dtype": [["a", "<u2"]]}))
    refused("its values are", tmp_path / "x.zarr")


def test_hostile_documents(tmp_path):
    path = multiscale(tmp_path / "x.zarr", [scaled(1, 1, 1)])
    for inside in ("../secret", "/etc", "a/../../b", "memory://x", "..\\x", "", None, 3):
        group = zarr.open_group(path)
        group.attrs["ome"] = {"multiscales": [{"axes": [], "datasets": [{"path": inside}]}]}
        refused("leaves the store: refused|a dataset's path is", path)
    group.attrs["ome"] = {"multiscales": [{"axes": [], "datasets": []}]}
    refused("its multiscales name no datasets", path)
    for raw, says in (
        (b"{", "is not JSON"),
        (b"[]", "a mapping was expected"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff", "is not JSON"),
    ):
        (path / "zarr.json").write_bytes(raw)
        refused(says, path)


def test_describe(tmp_path):
    path = multiscale(tmp_path / "x.zarr", [scaled(0.3, 0.2, 0.2)])
    found = describe(path)
    assert found["kind"] == "OME-Zarr 0.5"
    assert (found["axes"], found["shape"], found["dtype"]) == ("zyx", list(SHAPE), "uint16")
    assert (found["voxel_size"], found["unit"]) == ({"z": 0.3, "y": 0.2, "x": 0.2}, "micrometer")
    assert found["levels"] == [{"path": "0", "shape": list(SHAPE)}]
    assert found["bytes_in_memory"] == 2 * np.prod(SHAPE)
    assert found["bytes"] > 0
    json.dumps(found)
    write_zarr(tmp_path / "y.zarr", voxels())
    assert describe(tmp_path / "y.zarr")["note"] == "nothing says which axes these are: taken as zyx"


def test_importing_io_is_quick():
    heavy = "('zarr', 'xarray', 'tifffile', 'pandas', 'dask')"
    code = f"import sys, bigbia.io, bigbia.units; print([m for m in {heavy} if m in sys.modules])"
    root = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert found.stdout.strip() == "[]"
