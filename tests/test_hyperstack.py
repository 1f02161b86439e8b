"""What an image is: coordinates, voxel sizes that survive, lengths in words, and what is refused."""

import pickle

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from bigbia.errors import ParameterError
from bigbia.hyperstack import (
    channels,
    check_axes,
    each,
    hyperstack,
    lengths,
    origin,
    spatial_axes,
    time_step,
    unit,
    voxel_size,
)
from bigbia.units import LENGTHS, TIMES, convert, parse_lengths, unit_name


def image(shape=(2, 3, 6, 8, 10), axes="tczyx", size="0.29, 0.26, 0.26 um", **more):
    return hyperstack(da.zeros(shape, chunks=-1), axes, voxel_size=size, **more)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("um", "micrometer"), ("\u00b5m", "micrometer"), ("\u03bcm", "micrometer"), ("micron", "micrometer"),
        ("Microns", "micrometer"), ("micrometre", "micrometer"), ("Micrometers", "micrometer"), ("UM", "micrometer"),
        ("\\u00B5m", "micrometer"), ("nm", "nanometer"), ("mm", "millimeter"), ("Mm", "megameter"), ("m", "meter"),
        ("Å", "angstrom"), ("\u212b", "angstrom"), ("inch", "inch"), ("s", "second"), ("ms", "millisecond"),
        ("min", "minute"), ("pixel", None), ("", None), (None, None), (3, None), ("furlong", None),
    ],
)  # fmt: skip
def test_unit_names(text, name):
    assert unit_name(text) == name


def test_units_are_those_of_ome():
    from ome_zarr.axes import KNOWN_SPATIAL_UNITS, KNOWN_TEMPORAL_UNITS

    assert set(KNOWN_SPATIAL_UNITS) <= set(LENGTHS)
    assert set(KNOWN_TEMPORAL_UNITS) <= set(TIMES)
    assert [unit_name(name) for name in KNOWN_SPATIAL_UNITS] == KNOWN_SPATIAL_UNITS


def test_conversion_rounds_once():
    assert convert(290, "nanometer", "micrometer") == 0.29
    assert convert(0.29, "micrometer", "nanometer") == 290.0
    assert convert(1, "inch", "millimeter") == 25.4
    assert convert(1.5, "minute", "second") == 90.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5 um", ((0.5,), "micrometer")),
        ("0.5um", ((0.5,), "micrometer")),
        (" .5 µm ", ((0.5,), "micrometer")),
        ("1e-3 mm", ((0.001,), "millimeter")),
        ("0.29, 0.26, 0.26 um", ((0.29, 0.26, 0.26), "micrometer")),
        ("0.29,0.26,0.26um", ((0.29, 0.26, 0.26), "micrometer")),
        ("0.29 x 0.26 x 0.26 um", ((0.29, 0.26, 0.26), "micrometer")),
        ("0.29x0.26x0.26 um", ((0.29, 0.26, 0.26), "micrometer")),
        ("0.29 0.26 0.26 um", ((0.29, 0.26, 0.26), "micrometer")),
        ("0.29 um, 260 nm, 260 nm", ((290.0, 260.0, 260.0), "nanometer")),
    ],
)
def test_lengths_in_words(text, expected):
    assert parse_lengths(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.5", r"sigma='0.5': a length in words needs a unit: \"0.5 um\""),
        ("0.5 furlong", "unknown unit 'furlong'"),
        ("2 px", "voxels are plain numbers"),
        ("um", "is not a length"),
        ("", "is not a length"),
        ("0.5 um um", "is not a length"),
        ("0.5, um", "is not a length"),
        ("0.5 um,", "is not a length"),
        ("1 um, 2", "give every number a unit"),
        ("1 um, 2, 3 um", "give every number a unit"),
        ("0,5 um", 'a decimal comma or two numbers. Write "0.5 um", or "0, 5 um"'),
        ("1e999 um", "is not a length"),
        ("nan um", "is not a length"),
    ],
)
def test_refused_words(text, says):
    with pytest.raises(ParameterError, match=says) as caught:
        parse_lengths(text, "sigma")
    assert "\n" not in str(caught.value)
    assert repr(text) in str(caught.value)


def test_voxel_size_round_trip():
    x = image(channels=["DAPI", "GFP", "RFP"], time_step=30.0, time_unit="s", name="cells")
    assert voxel_size(x) == {"z": 0.29, "y": 0.26, "x": 0.26}
    assert unit(x) == "micrometer"
    assert channels(x) == ("DAPI", "GFP", "RFP")
    assert time_step(x) == (30.0, "second")
    assert x.name == "cells"
    assert x.z.attrs["units"] == "micrometer"
    assert isinstance(x.data, da.Array)
    assert x.sel(c="GFP").dims == ("t", "z", "y", "x")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x.isel(z=slice(3, None)), {"z": 0.29, "y": 0.26, "x": 0.26}),
        (lambda x: x.isel(z=slice(5, 6)), {"z": 0.29, "y": 0.26, "x": 0.26}),
        (lambda x: x.isel(z=slice(0, 0)), {"z": 0.29, "y": 0.26, "x": 0.26}),
        (lambda x: x.isel(z=2), {"y": 0.26, "x": 0.26}),
        (lambda x: x.isel(z=slice(None, None, 2), x=slice(1, None, 3)), {"z": 0.58, "y": 0.26, "x": 0.78}),
        (lambda x: x.isel(y=slice(None, None, -1)), {"z": 0.29, "y": 0.26, "x": 0.26}),
        (lambda x: x.transpose("x", "c", "z", "t", "y"), {"x": 0.26, "z": 0.29, "y": 0.26}),
        (lambda x: (x * 2 + 1 > 3) & (x < 5), {"z": 0.29, "y": 0.26, "x": 0.26}),
        (lambda x: np.sqrt(x).astype("f4"), {"z": 0.29, "y": 0.26, "x": 0.26}),
        (lambda x: x.coarsen(y=2, x=2).mean(), {"z": 0.29, "y": 0.52, "x": 0.52}),
        (lambda x: xr.concat([x, x], dim="t"), {"z": 0.29, "y": 0.26, "x": 0.26}),
        (lambda x: x.chunk({"z": 1}), {"z": 0.29, "y": 0.26, "x": 0.26}),
        (lambda x: pickle.loads(pickle.dumps(x)), {"z": 0.29, "y": 0.26, "x": 0.26}),
    ],
)
def test_voxel_size_survives(change, expected):
    changed = change(image())
    assert voxel_size(changed) == expected
    assert unit(changed) == "micrometer"


def test_voxel_size_is_exact_far_from_the_origin():
    x = image(origin={"z": 1e6, "x": -123456.789})
    assert voxel_size(x.isel(z=slice(2, 5))) == {"z": 0.29, "y": 0.26, "x": 0.26}
    assert origin(x.isel(z=slice(2, 5)))["z"] == 1000000.58


@pytest.mark.parametrize("size", [0.1, 0.2, 0.26, 0.29, 0.3, 1 / 3, 0.1083333, 7e-5, 1234.5])
@pytest.mark.parametrize("length", [1, 2, 3, 1000])
def test_any_size_comes_back_exactly(size, length):
    x = hyperstack(np.zeros((length, 2)), "yx", voxel_size=size, unit="nm")
    assert voxel_size(x)["y"] == pytest.approx(size, rel=1e-12)
    if len(repr(size)) < 12:
        assert voxel_size(x)["y"] == size


def test_images_without_voxel_size():
    for x in (
        np.zeros((2, 3)),
        da.zeros((2, 3)),
        hyperstack(np.zeros((2, 3)), "yx"),
        xr.DataArray(np.zeros((2, 3)), dims=("y", "x")),
    ):
        assert voxel_size(x) is None
        assert unit(x) is None
    partial = hyperstack(np.zeros((2, 3, 4)), "zyx", voxel_size={"y": "0.2 um", "x": "0.2 um"})
    assert voxel_size(partial) is None
    assert lengths("0.4 um", partial.isel(z=0), "sigma") == (2.0, 2.0)


def test_units_that_differ_between_axes():
    x = image((4, 4, 4), "zyx", "0.3 um")
    x = x.assign_coords(z=("z", np.arange(4) * 300.0, {"units": "nm"}))
    assert unit(x) == "micrometer"
    assert voxel_size(x) == {"z": 0.3, "y": 0.3, "x": 0.3}
    assert lengths("0.6 um", x, "sigma") == (2.0, 2.0, 2.0)


def test_uneven_coordinates_are_refused():
    with pytest.raises(ParameterError, match=r"axis z: its coordinates are not evenly spaced \(steps 0.29 to 1.16"):
        voxel_size(image().isel(z=[0, 1, 5]))


def test_lengths():
    x = image()
    assert lengths(2, x, "sigma") == (0.0, 0.0, 2.0, 2.0, 2.0)
    assert lengths((1, 2, 3.5), x, "sigma") == (0.0, 0.0, 1.0, 2.0, 3.5)
    assert lengths(np.array([1, 2, 3]), x, "sigma") == (0.0, 0.0, 1.0, 2.0, 3.0)
    assert lengths("0.87, 0.52, 0.78 um", x, "radius") == (0.0, 0.0, 3.0, 2.0, 3.0)
    assert lengths("520 nm", x.isel(z=0, t=0), "radius") == (0.0, 2.0, 2.0)
    assert lengths(["0.58 um", 2, "260 nm"], x, "radius") == (0.0, 0.0, 2.0, 2.0, 1.0)
    assert lengths(1, np.zeros((3, 4)), "sigma") == (1.0, 1.0)
    assert lengths([2], np.zeros(3), "sigma") == (2.0,)
    assert lengths("0.5 um", x.transpose("x", "y", "z", "c", "t"), "s")[:3] == pytest.approx(
        (0.5 / 0.26, 0.5 / 0.26, 0.5 / 0.29)
    )


@pytest.mark.parametrize(
    ("value", "stack", "says"),
    [
        ("0.5", None, "sigma='0.5': a length in words needs a unit"),
        ("0.5 parsnip", None, "sigma='0.5 parsnip': unknown unit 'parsnip'"),
        (-1, None, "sigma=-1: must not be negative"),
        ("-1 um", None, "sigma='-1 um': must not be negative"),
        (float("nan"), None, "sigma=nan: must be a finite number"),
        (True, None, "sigma=True: is not a length"),
        (None, None, "sigma=None: is not a length"),
        ((1, 2), None, r"sigma=\(1, 2\): 2 numbers for 3 spatial axes \(z, y, x\): give 1 or 3"),
        ((1,), None, "1 numbers for 3 spatial axes"),
        ((1, "a", 2), None, "'a': is not a length"),
        ((1, None, 2), None, "None is not one length"),
        ("1, 2 um", None, "2 numbers for 3 spatial axes"),
        ("0.5 um", np.zeros((2, 2)), "sigma='0.5 um': a plain array has no voxel size"),
        (
            "0.5 um",
            hyperstack(np.zeros((2, 2)), "yx"),
            "no voxel size along y: give voxels, or open it with voxel_size=",
        ),
        ("0.5 um", hyperstack(np.zeros((2, 2)), "yx", voxel_size=0.3), "is 0.3 without a unit"),
    ],
)
def test_refused_lengths(value, stack, says):
    with pytest.raises(ParameterError, match=says) as caught:
        lengths(value, image() if stack is None else stack, "sigma")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"axes": "zyq"}, "axes='zyq': 'q' is not one of t c z y x"),
        ({"axes": "zzx"}, "z is there twice"),
        ({"axes": "yx"}, r"2 names for the 3 axes of shape \(2, 3, 4\)"),
        ({"axes": "zyx", "voxel_size": "0.3, 0.2 um"}, "2 numbers for 3 spatial axes"),
        ({"axes": "zyx", "voxel_size": "0.3"}, "needs a unit"),
        ({"axes": "zyx", "voxel_size": 0}, "give a positive number"),
        ({"axes": "zyx", "voxel_size": {"w": 1}}, "'w' is no spatial axis"),
        ({"axes": "zyx", "voxel_size": {"z": "1, 2 um"}}, "more than one number for axis z"),
        ({"axes": "zyx", "voxel_size": 1, "unit": "parsnip"}, "unit='parsnip': unknown unit"),
        ({"axes": "zyx", "channels": ["a"]}, "the image has no axis c"),
        ({"axes": "cyx", "channels": ["a"]}, "1 names for 2 channels"),
        ({"axes": "cyx", "channels": ["a", "a"]}, "'a' is there twice"),
    ],
)
def test_refused_hyperstacks(arguments, says):
    with pytest.raises(ParameterError, match=says):
        hyperstack(np.zeros((2, 3, 4)), **arguments)


@pytest.mark.parametrize(
    ("dims", "says"),
    [
        (("Z", "Y", "X"), r"image.rename\({'Z': 'z', 'Y': 'y', 'X': 'x'}\)"),
        (("time", "y", "x"), r"image.rename\({'time': 't'}\)"),
        (("dim_0", "dim_1", "dim_2"), r'hyperstack\(image.data, "zyx"\)'),
        (("a", "b", "y", "x"), r"image.rename\({...}\)"),
    ],
)
def test_other_dims_are_refused_with_the_way_out(dims, says):
    stack = xr.DataArray(np.zeros((2,) * len(dims)), dims=dims)
    for function in (check_axes, spatial_axes, lambda i: list(each(i)), voxel_size):
        with pytest.raises(ParameterError, match=says):
            function(stack)


def test_axes_and_each():
    x = image()
    check_axes(x)
    check_axes(np.zeros(3))
    assert spatial_axes(x) == (2, 3, 4)
    assert spatial_axes(x.transpose("z", "t", "y", "c", "x")) == (0, 2, 4)
    assert spatial_axes(np.zeros((2, 3))) == (0, 1)
    assert list(each(x)) == [{"t": t, "c": c} for t in range(2) for c in range(3)]
    assert list(each(x.isel(t=0, c=0))) == [{}]
    assert list(each(np.zeros((2, 3)))) == [{}]
    assert [x.isel(i).shape for i in each(x)] == [(6, 8, 10)] * 6
