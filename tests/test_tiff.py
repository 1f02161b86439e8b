"""TIFF, OME-TIFF and ImageJ TIFF: equal to tifffile's own reading, and what the file says about its voxels."""

import os

import numpy as np
import pytest
import tifffile
from images import check_source, opened, refused, voxels

from bigbia.errors import BigbiaWarning, InputError, MissingExtraError, ParameterError
from bigbia.hyperstack import channels, time_step, unit, voxel_size
from bigbia.io.opening import describe
from bigbia.io.opening import open as open_image

TIFF_KINDS = {
    "plain": {},
    "big endian": {"byteorder": ">"},
    "big tiff": {"bigtiff": True},
    "deflate": {"compression": "zlib"},
    "deflate, big endian": {"compression": "zlib", "byteorder": ">"},
    "predictor": {"compression": "zlib", "predictor": True},
    "strips": {"compression": "zlib", "rowsperstrip": 5},
    "tiles": {"tile": (16, 16)},
    "tiles, deflate": {"tile": (16, 16), "compression": "zlib"},
    "said axes": {"metadata": {"axes": "ZYX"}},
    "no metadata": {"metadata": None},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
    "ome, deflate": {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
}


@pytest.mark.parametrize("name", TIFF_KINDS)
def test_tiff_kinds(tmp_path, name, sources):
    tifffile.imwrite(tmp_path / "x.tif", voxels(), **TIFF_KINDS[name])
    image = opened(tmp_path / "x.tif")
    assert image.dims == ("z", "y", "x")
    np.testing.assert_array_equal(image.values, voxels())
    check_source(sources[0], voxels())
    assert sources[0].missing_chunks()[0] == 0


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_large_tiled_pages_are_read_by_tile(tmp_path, compression, sources):
    big = np.random.default_rng(0).integers(0, 9, (2, 1000, 900), dtype="u2")
    tifffile.imwrite(tmp_path / "x.tif", big, tile=(256, 256), compression=compression, metadata={"axes": "CYX"})
    image = opened(tmp_path / "x.tif")
    assert sources[0].chunks == (1, 256, 256)
    check_source(sources[0], big)
    assert image.dims == ("c", "y", "x")


def test_ome_tiff(tmp_path, sources):
    data = voxels((2, 3, 4, 17, 23))
    metadata = {
        "axes": "TCZYX", "PhysicalSizeX": 0.26, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 260.0,
        "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 0.29, "PhysicalSizeZUnit": "µm",
        "TimeIncrement": 30.0, "TimeIncrementUnit": "s", "Channel": {"Name": ["DAPI", "GFP", "RFP"]},
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "x.ome.tif", data, ome=True, metadata=metadata)
    image = opened(tmp_path / "x.ome.tif")
    assert image.dims == ("t", "c", "z", "y", "x")
    assert image.name == "x"
    assert (voxel_size(image), unit(image)) == ({"z": 0.29, "y": 0.26, "x": 0.26}, "micrometer")
    assert channels(image) == ("DAPI", "GFP", "RFP")
    assert time_step(image) == (30.0, "second")
    check_source(sources[0], data)
    found = describe(tmp_path / "x.ome.tif")
    assert (found["kind"], found["axes"], found["channels"]) == ("OME-TIFF", "tczyx", ["DAPI", "GFP", "RFP"])


def test_imagej_hyperstack(tmp_path, sources):
    data = voxels((2, 4, 3, 17, 23))
    metadata = {"axes": "TZCYX", "spacing": 0.29, "unit": "um", "finterval": 2.5}
    tifffile.imwrite(tmp_path / "x.tif", data, imagej=True, resolution=(1 / 0.26, 1 / 0.26), metadata=metadata)
    image = opened(tmp_path / "x.tif")
    assert image.dims == ("t", "z", "c", "y", "x")  # the file's own order
    assert (voxel_size(image), unit(image)) == ({"z": 0.29, "y": 0.26, "x": 0.26}, "micrometer")
    assert time_step(image) == (2.5, "second")
    check_source(sources[0], data)


def test_resolution_as_imagej_writes_it(tmp_path):
    """ImageJ's rationals have a million below: 3846154 / 1000000 pixels in 1 um are voxels of 0.26 um."""
    tags = [(282, 5, 1, (3846154, 1000000), True), (283, 5, 1, (3846154, 1000000), True)]
    description = "ImageJ=1.53c\nimages=3\nslices=3\nunit=\\u00B5m\nspacing=0.5\n"
    with tifffile.TiffWriter(tmp_path / "x.tif", byteorder=">") as tif:
        for plane in voxels((3, 8, 9)):
            tif.write(plane, description=description, metadata=None, contiguous=False, extratags=tags, resolution=None)
            description = None
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        tag = tif.pages[0].tags["XResolution"].value
    image = opened(tmp_path / "x.tif")
    np.testing.assert_array_equal(image.values, voxels((3, 8, 9)))
    if tag == (3846154, 1000000):  # tifffile may write its own tag first
        assert voxel_size(image) == {"z": 0.5, "y": 0.26, "x": 0.26}


def test_printing_resolution_is_no_voxel_size(tmp_path):
    tifffile.imwrite(tmp_path / "dpi.tif", voxels((8, 9)), resolution=(72, 72), resolutionunit="INCH")
    tifffile.imwrite(tmp_path / "print.tif", voxels((8, 9)), resolution=(28.35, 28.35), resolutionunit="CENTIMETER")
    tifffile.imwrite(tmp_path / "scope.tif", voxels((8, 9)), resolution=(40000, 40000), resolutionunit="CENTIMETER")
    assert voxel_size(opened(tmp_path / "dpi.tif")) is None
    assert voxel_size(opened(tmp_path / "print.tif")) is None
    scope = opened(tmp_path / "scope.tif")
    assert (voxel_size(scope), unit(scope)) == ({"y": 0.25, "x": 0.25}, "micrometer")


def test_colours_are_channels(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", voxels((8, 9, 3), "u1"), photometric="rgb")
    image = opened(tmp_path / "x.tif")
    assert image.dims == ("y", "x", "c")
    assert channels(image) == ("red", "green", "blue")
    np.testing.assert_array_equal(image.sel(c="blue").values, voxels((8, 9, 3), "u1")[..., 2])


def test_tiff_pyramid(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as tif:
        tif.write(voxels((64, 96)), subifds=1, resolution=(40000, 40000), resolutionunit=3, metadata={"axes": "YX"})
        tif.write(voxels((32, 48)), subfiletype=1, metadata=None)
    np.testing.assert_array_equal(opened(tmp_path / "x.tif", level=1).values, voxels((32, 48)))
    assert voxel_size(opened(tmp_path / "x.tif", level=1)) == {"y": 0.5, "x": 0.5}
    assert describe(tmp_path / "x.tif")["levels"] == [{"shape": [64, 96]}, {"shape": [32, 48]}]
    with pytest.raises(ParameterError, match=r"level=2: has 2 level\(s\), 0 to 1"):
        opened(tmp_path / "x.tif", level=2)


def test_more_than_one_image_is_said(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as tif:
        tif.write(voxels((8, 9)))
        tif.write(voxels((5, 4)))
    with pytest.warns(BigbiaWarning, match=r"holds 2 images: the first one is opened, of shape \(8, 9\)"):
        assert open_image(tmp_path / "x.tif").shape == (8, 9)


def ome_xml(planes, files=None):
    """OME-XML that places planes along z: (ifd, z) pairs, each in a file of its own where `files` are named."""
    head = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{0}">
    <Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="9" SizeY="8" SizeZ="4"
    SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>"""
    data = [
        f'<TiffData IFD="{ifd}" FirstZ="{z}" PlaneCount="1">'
        + (f'<UUID FileName="{files[z]}">urn:uuid:{z}</UUID>' if files else "")
        + "</TiffData>"
        for ifd, z in planes
    ]
    return head + "".join(data) + "</Pixels></Image></OME>"


def test_a_page_that_is_missing(tmp_path):
    data = voxels((4, 8, 9)) + 1
    with tifffile.TiffWriter(tmp_path / "x.ome.tif") as tif:
        for i, z in enumerate((0, 1, 3)):
            xml = ome_xml([(0, 0), (1, 1), (2, 3)]).format(0) if i == 0 else None
            tif.write(data[z], contiguous=False, description=xml, metadata=None, compression="zlib")
    data[2] = 0
    np.testing.assert_array_equal(opened(tmp_path / "x.ome.tif").values, data)
    assert describe(tmp_path / "x.ome.tif")["missing_chunks"] == {"absent": 1, "total": 4}
    with pytest.raises(InputError, match=r"the page of z=2..2, y=0..7, x=0..8 is missing: restore it"):
        opened(tmp_path / "x.ome.tif", on_missing="error").values  # noqa: B018


def test_one_image_in_several_files(tmp_path, sources):
    data = voxels((4, 8, 9))
    names = [f"z{z}.ome.tif" for z in range(4)]
    for z, name in enumerate(names):
        xml = ome_xml([(0, z) for z in range(4)], names).format(z)
        tifffile.imwrite(tmp_path / name, data[z], description=xml, metadata=None)
    assert opened(tmp_path / names[0]).dims == ("z", "y", "x")
    check_source(sources[0], data)
    tifffile.imwrite(tmp_path / names[2], data[2] + 1, metadata=None)
    os.utime(tmp_path / names[2], ns=(10**18, 10**18))
    opened(tmp_path / names[0])
    assert sources[1].token != sources[0].token


def test_damaged_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", voxels(), compression="zlib", metadata={"axes": "ZYX"})
    raw = bytearray((tmp_path / "x.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        start = tif.pages[5].dataoffsets[0]
    raw[start : start + 40] = bytes(40)
    (tmp_path / "x.tif").write_bytes(raw)
    image = opened(tmp_path / "x.tif", block=(1, 17, 23))
    np.testing.assert_array_equal(image[:5].values, voxels()[:5])
    with pytest.raises(InputError, match=r"x\.tif: .* cannot be decoded: .*the file is damaged, restore it"):
        image.values  # noqa: B018


def test_refused_tiffs(tmp_path):
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((4, 5), "c8"))
    refused("its voxels are complex64", tmp_path / "c.tif")
    tifffile.imwrite(
        tmp_path / "s.ome.tif", np.zeros((2, 8, 9, 3), "u1"), photometric="rgb", ome=True, metadata={"axes": "CYXS"}
    )
    refused("has channels and colour samples", tmp_path / "s.ome.tif")


def test_codecs_that_are_not_installed(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "x.tif", voxels(), compression="zlib", metadata={"axes": "ZYX"})
    monkeypatch.setattr(tifffile.tifffile.TIFF.DECOMPRESSORS, "__getitem__", None, raising=False)
    monkeypatch.setattr(type(tifffile.TIFF.DECOMPRESSORS), "__getitem__", lambda self, key: {}[key])
    with pytest.raises(
        MissingExtraError, match="is packed as ADOBE_DEFLATE, which needs the package imagecodecs: pip install"
    ):
        opened(tmp_path / "x.tif")
