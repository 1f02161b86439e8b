"""Which image of a TIFF file is opened, and what the file says of how its channels are shown."""

import numpy as np
import pytest
import tifffile
from images import check_source, opened, refused, voxels

from bigbia.errors import BigbiaWarning, ParameterError
from bigbia.hyperstack import channels, voxel_size
from bigbia.io.opening import open as open_image
from bigbia.run.inputs import OPENING, open_input


@pytest.fixture
def several(tmp_path):
    """An OME-TIFF of three images, the second with channels and a pyramid."""
    path = tmp_path / "x.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(voxels((8, 9)), metadata={"Name": "label"})
        sizes = {"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2, "Channel": {"Name": ["DAPI", "GFP"]}}
        data = voxels((8, 64, 64))[:2]
        tif.write(data, metadata={"Name": "slide", "axes": "CYX", **sizes}, subifds=1)
        tif.write(data[:, ::2, ::2], subfiletype=1)
        tif.write(voxels((8, 30, 20)), metadata={"Name": "2", "axes": "ZYX"}, compression="zlib")
    return path


def test_scenes_by_name_and_number(several, sources):
    for scene in (1, "slide", "1"):
        image = opened(several, scene=scene)
        assert (image.dims, channels(image), image.name) == (("c", "y", "x"), ("DAPI", "GFP"), f"x_{scene}")
        assert voxel_size(image) == {"y": 0.2, "x": 0.2}
        np.testing.assert_array_equal(image.values, voxels((8, 64, 64))[:2])
    check_source(sources[0], voxels((8, 64, 64))[:2])
    np.testing.assert_array_equal(opened(several, level=1, scene=1).values, voxels((8, 64, 64))[:2, ::2, ::2])
    for scene in (2, "2"):  # its name is its number too
        assert opened(several, scene=scene).dims == ("z", "y", "x")
    check_source(sources[-1], voxels((8, 30, 20)))
    assert len({source.token for source in sources}) == 3  # slide, its level 1, and 2 are not the same


def test_without_a_scene_the_first_one_is_opened_and_this_is_said(several):
    with pytest.warns(
        BigbiaWarning, match=r"holds 3 images: the first .*; scene=1 opens the next \(they are label, slide, 2\)"
    ):
        assert open_image(several).shape == (8, 9)


def test_scenes_that_are_not_there(several, tmp_path):
    refused(r"scene=3: .* holds 3 images \(label, slide, 2\): give a name", several, ParameterError, scene=3)
    refused("scene='slid': .* holds 3 images", several, ParameterError, scene="slid")
    for wrong in (True, 1.5, ["slide"], -1, "", "9" * 5000, 10**30):
        refused("scene=", several, ParameterError, scene=wrong)
    tifffile.imwrite(tmp_path / "one.tif", voxels())
    assert opened(tmp_path / "one.tif", scene=0).name == "one"
    refused("scene=1: .*one.tif holds one image", tmp_path / "one.tif", ParameterError, scene=1)
    refused("scene=0: .* is not a file of several images", _zarr(tmp_path), ParameterError, scene=0)


def _zarr(folder):
    from images import write_zarr

    write_zarr(folder / "x.zarr", voxels())
    return folder / "x.zarr"


def test_images_without_names(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as tif:
        tif.write(voxels((8, 9)))
        tif.write(voxels((5, 4)))
    assert opened(tmp_path / "x.tif", scene=1).shape == (5, 4)


def test_the_words_of_a_command_reach_the_reader(several):
    assert {"scene", "well", "field"} <= set(OPENING)
    assert open_input(str(several), scene="slide").sizes["c"] == 2
    with pytest.raises(ParameterError, match="well='A1'"):
        open_input(str(several), well="A1")
    with pytest.raises(ParameterError, match="field='0'"):
        open_input(str(several), field="0")


def test_colours_of_ome_tiff(tmp_path):
    metadata = {"axes": "CYX", "Channel": {"Name": ["a", "b", "c", "d"], "Color": [-16776961, 16711935, 65535, 2**40]}}
    tifffile.imwrite(tmp_path / "x.ome.tif", voxels((8, 5, 6))[:4], ome=True, metadata=metadata)
    assert opened(tmp_path / "x.ome.tif").encoding["display"] == {
        "a": {"color": "FF0000"}, "b": {"color": "00FF00"}, "c": {"color": "0000FF"},
    }  # fmt: skip


def test_contrast_and_colours_of_imagej(tmp_path):
    ramp = np.arange(256, dtype="u1")
    red, fire = np.zeros((3, 256), "u1"), np.stack([ramp, ramp**2, ramp])
    red[0] = ramp
    metadata = {"axes": "CYX", "Ranges": (10.0, 90.0, 0.0, 50.0), "LUTs": [red, fire], "mode": "composite"}
    tifffile.imwrite(tmp_path / "x.tif", voxels((8, 5, 6))[:2], imagej=True, metadata=metadata)
    image = opened(tmp_path / "x.tif")
    assert image.encoding["display"] == {"0": {"window": (10.0, 90.0), "color": "FF0000"}, "1": {"window": (0.0, 50.0)}}
    assert opened(tmp_path / "x.tif", channels=["a", "b"]).encoding["display"]["b"] == {"window": (0.0, 50.0)}
    tifffile.imwrite(tmp_path / "y.tif", voxels((5, 6)), imagej=True, metadata={"min": 3.0, "max": 77.0})
    assert opened(tmp_path / "y.tif").encoding["display"] == {"": {"window": (3.0, 77.0)}}
    tifffile.imwrite(tmp_path / "z.tif", voxels((5, 6)), imagej=True, metadata={"min": 77.0, "max": 3.0})
    assert opened(tmp_path / "z.tif").encoding["display"] == {}


def test_colour_samples_have_their_colours(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", voxels((8, 9, 3), "u1"), photometric="rgb")
    assert opened(tmp_path / "x.tif", channels="blue").encoding["display"] == {"blue": {"color": "0000FF"}}


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("words", [{}, {"compression": "zlib"}, {"ome": True}, {"imagej": True}], ids=str)
def test_files_that_are_cut_off(tmp_path, part, words):
    """Refused when it is opened or when it is read, unless every voxel and all that the file said are still there."""
    from bigbia.errors import BigbiaError

    tifffile.imwrite(tmp_path / "x.tif", voxels((9, 40, 50)) + 1, metadata={"axes": "ZYX"}, **words)
    data = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(data[: int(len(data) * part)])
    if words.get("imagej") and part == 0.99:  # ImageJ's first page says it all, and its voxels follow
        assert opened(tmp_path / "x.tif").dims == ("z", "y", "x")
        np.testing.assert_array_equal(opened(tmp_path / "x.tif").values, voxels((9, 40, 50)) + 1)
        return
    with pytest.raises(BigbiaError, match=r"x\.tif") as caught:
        opened(tmp_path / "x.tif").values  # noqa: B018
    assert "\n" not in str(caught.value)


CUT = {
    "deflate": {"compression": "zlib"},
    "lzw": {"compression": "lzw"},
    "strips": {"compression": "zlib", "rowsperstrip": 5},
    "tiles": {"tile": (16, 16)},
    "packed tiles": {"tile": (16, 16), "compression": "zlib"},
    "big": {"bigtiff": True, "compression": "zlib"},
    "ome": {"ome": True, "compression": "zlib"},
}


@pytest.mark.parametrize("name", CUT)
def test_no_cut_goes_unseen(tmp_path, name):
    """Cut at any byte: refused by name, or nothing is missing. (tifffile shows the pages before a broken one.)"""
    from bigbia.errors import BigbiaError

    if name == "lzw":
        pytest.importorskip("imagecodecs", reason="LZW needs imagecodecs")
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, voxels() + 1, metadata={"axes": "ZYX"}, **CUT[name])
    data = path.read_bytes()
    places = np.random.default_rng(0).integers(0, len(data), 40).tolist()
    refusals = []
    for size in sorted({*places, *range(12), *range(len(data) - 12, len(data))}):
        path.write_bytes(data[:size])
        try:
            image = opened(path)
            values = image.values
        except BigbiaError as error:
            refusals.append(str(error))
            continue
        assert image.dims == ("z", "y", "x"), size
        np.testing.assert_array_equal(values, voxels() + 1, err_msg=str(size))
    assert len(refusals) > 40
    assert not [said for said in refusals if "\n" in said or str(path) not in said]
