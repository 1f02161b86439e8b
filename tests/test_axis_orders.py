"""Every order of axes that OME-Zarr 0.4 and 0.5 allow: time, then a channel or an axis of another type, then space."""

import itertools
import math
import warnings

import numpy as np
import pytest
import zarr
from images import opened, refused

from bigbia.errors import BigbiaWarning, ParameterError
from bigbia.hyperstack import channels, time_step, unit, voxel_size
from bigbia.io.opening import open as open_image

LENGTHS = {"t": 2, "c": 3, "z": 4, "y": 5, "x": 6}
STEPS = {"t": 1.5, "c": 1.0, "z": 0.4, "y": 0.2, "x": 0.1}
TYPES = {"t": ("t", "time", "second"), "c": ("c", "channel", None)}
SPACES = [order for n in (2, 3) for order in itertools.permutations("zyx", n)]
ORDERS = [(*t, *c, *space) for t in ((), ("t",)) for c in ((), ("c",)) for space in SPACES]


def store(path, axes, zarr_format, *, names=None, types=None, change=lambda multiscale: None):
    """An image by hand: `axes` are what its axes mean, `names` and `types` what the file calls them."""
    shape = tuple(LENGTHS[a] for a in axes)
    voxels = np.arange(math.prod(shape), dtype="u2").reshape(shape)
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    described = []
    for axis in axes:
        name, kind, own = TYPES.get(axis, (axis, "space", "micrometer"))
        entry = {"name": (names or {}).get(axis, name), "type": (types or {}).get(axis, kind), "unit": own}
        described.append({key: value for key, value in entry.items() if value is not None})
    scale = {"type": "scale", "scale": [STEPS[a] for a in axes]}
    multiscale = {
        "axes": described,
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
        "version": "0.4",
    }
    change(multiscale)
    meta = {"multiscales": [multiscale]}
    if "c" in axes:
        meta["omero"] = {"channels": [{"label": name, "color": "FF0000"} for name in ("DAPI", "GFP", "RFP")]}
    group.attrs.update({"ome": {"version": "0.5", **meta}} if zarr_format == 3 else meta)
    group.create_array("0", shape=shape, chunks=shape, dtype="u2")[...] = voxels
    return voxels


def check(image, axes, voxels):
    assert image.dims == tuple(axes)
    np.testing.assert_array_equal(image.values, voxels)
    assert voxel_size(image) == {a: STEPS[a] for a in axes if a in "zyx"}
    assert unit(image) == "micrometer"
    assert time_step(image) == ((1.5, "second") if "t" in axes else None)
    assert channels(image) == (("DAPI", "GFP", "RFP") if "c" in axes else None)
    for axis in set(axes) & set("zyx"):
        np.testing.assert_allclose(image[axis].values, STEPS[axis] * np.arange(LENGTHS[axis]))


@pytest.mark.parametrize("zarr_format", [2, 3], ids=["0.4", "0.5"])
@pytest.mark.parametrize("axes", ORDERS, ids="".join)
def test_every_order(tmp_path, axes, zarr_format):
    voxels = store(tmp_path / "x.zarr", axes, zarr_format)
    with warnings.catch_warnings():
        warnings.simplefilter("error", BigbiaWarning)
        check(open_image(tmp_path / "x.zarr"), axes, voxels)
        check(open_image(tmp_path / "x.zarr/0"), axes, voxels)


@pytest.mark.parametrize("axes", [o for o in ORDERS if "c" in o], ids="".join)
def test_an_axis_of_another_type_is_taken_for_c(tmp_path, axes):
    voxels = store(tmp_path / "x.zarr", axes, 3, names={"c": "angle"}, types={"c": "angle"})
    with pytest.warns(BigbiaWarning, match="its axis 'angle' of type 'angle' is taken for c"):
        image = open_image(tmp_path / "x.zarr")
    check(image, axes, voxels)


@pytest.mark.parametrize(
    ("names", "types"),
    [
        ({"t": "frame", "c": "lambda"}, {}),
        ({"t": "Time", "c": "Channel"}, {}),
        ({"t": "time", "c": "channel"}, {"t": None, "c": None}),
        ({"t": "time", "c": "dye"}, {"c": None}),
        ({"t": "c1", "c": "t1"}, {}),
    ],
    ids=str,
)
def test_other_names_for_time_and_channel(tmp_path, names, types):
    voxels = store(tmp_path / "x.zarr", "tcyx", 3, names=names, types=types)
    with pytest.warns(BigbiaWarning, match="is taken for t") as said:
        check(open_image(tmp_path / "x.zarr"), "tcyx", voxels)
    assert any("is taken for c" in str(one.message) for one in said)


def test_names_in_any_case(tmp_path):
    voxels = store(tmp_path / "x.zarr", "tczyx", 3, names={a: a.upper() for a in "tczyx"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", BigbiaWarning)
        check(open_image(tmp_path / "x.zarr"), "tczyx", voxels)


@pytest.mark.parametrize(
    ("names", "types"),
    [
        ({"c": "angle", "t": "phase"}, {"c": "angle", "t": "phase"}),  # two that could be the channel
        ({"z": "depth"}, {}),  # space of another name: which way is up is not for us to guess
        ({"t": "y"}, {}),
    ],
)
def test_axes_that_cannot_be_told(tmp_path, names, types):
    voxels = store(tmp_path / "x.zarr", "tczyx", 3, names=names, types=types)
    refused("nothing says which axes shape .* has: pass axes", tmp_path / "x.zarr", ParameterError)
    np.testing.assert_array_equal(opened(tmp_path / "x.zarr", axes="tczyx").values, voxels)


def test_an_axis_of_another_type_beside_a_channel(tmp_path):
    store(tmp_path / "x.zarr", "tcyx", 3, names={"t": "angle"}, types={"t": "angle"})
    refused("nothing says which axes", tmp_path / "x.zarr", ParameterError)
    assert opened(tmp_path / "x.zarr", axes="tcyx").dims == ("t", "c", "y", "x")


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_versions_without_axes(tmp_path, version):
    def older(multiscale):
        del multiscale["axes"]
        del multiscale["datasets"][0]["coordinateTransformations"]
        multiscale["version"] = version

    voxels = store(tmp_path / "x.zarr", "tczyx", 2, change=older)
    image = opened(tmp_path / "x.zarr")
    assert image.dims == tuple("tczyx")
    np.testing.assert_array_equal(image.values, voxels)


def test_version_0_3_names_its_axes(tmp_path):
    def older(multiscale):
        multiscale["axes"] = ["c", "y", "x"]
        multiscale["version"] = "0.3"
        del multiscale["datasets"][0]["coordinateTransformations"]

    voxels = store(tmp_path / "x.zarr", "cyx", 2, change=older)
    image = opened(tmp_path / "x.zarr")
    assert (image.dims, channels(image)) == (("c", "y", "x"), ("DAPI", "GFP", "RFP"))
    np.testing.assert_array_equal(image.values, voxels)


@pytest.mark.parametrize("count", [1, 2])
def test_a_count_of_axes_that_is_wrong(tmp_path, count):
    voxels = store(tmp_path / "x.zarr", "zyx", 3, change=lambda m: m.update(axes=m["axes"][:count]))
    refused(rf"shape \(4, 5, 6\) has 3 axes, the image's metadata name {count} ", tmp_path / "x.zarr")
    assert opened(tmp_path / "x.zarr", axes="zyx").shape == voxels.shape
