"""LIF files made by hand: a header of XML, then blocks of voxels. Equal to liffile's own reading where it reads them."""

import os
import pickle
import struct
import sys

import numpy as np
import pytest
from images import check_source, opened, refused, voxels

from bigbia.errors import InputError, MissingExtraError, ParameterError
from bigbia.graph.dask import from_source
from bigbia.hyperstack import channels, time_step, unit, voxel_size
from bigbia.io.formats import found
from bigbia.io.places import Place

liffile = pytest.importorskip("liffile")

IDS = {"x": 1, "y": 2, "z": 3, "t": 4, "w": 5, "m": 10}
LENGTHS = {"x": (0.1e-6, "m"), "y": (0.2e-6, "m"), "z": (-0.5e-6, "m"), "t": (30.0, "s"), "m": (0, ""), "w": (0, "")}


def find(path, level=0, scene=None, on_missing=None):
    return found(Place(path), level, scene, on_missing)


def element(name, data, axes, luts, number, tags=None):
    """The XML of an image whose voxels lie in the order of `axes`, the last one fastest."""
    steps = dict(zip(axes, data.strides))
    dims = "".join(
        f'<DimensionDescription DimID="{IDS[a]}" NumberOfElements="{n}" Origin="0" Length="{LENGTHS[a][0] * (n - 1)}" '
        f'Unit="{LENGTHS[a][1]}" BitInc="0" BytesInc="{steps[a]}"/>'
        for a, n in reversed(list(zip(axes, data.shape)))
        if a != "c"
    )
    floating = data.dtype.kind == "f"
    bits = data.dtype.itemsize * 8
    described = "".join(
        f'<ChannelDescription DataType="{int(floating)}" ChannelTag="{tags[i] if tags else 0}" Resolution="{bits}" '
        f'NameOfMeasuredQuantity="" Min="0" Max="255" Unit="" LUTName="{lut}" IsLUTInverted="0" '
        f'BytesInc="{i * steps.get("c", 0)}" BitInc="0"/>'
        for i, lut in enumerate(luts)
    )
    return (
        f'<Element Name="{name}" Visibility="1" UniqueID="u{number}"><Data><Image><ImageDescription><Channels>{described}'
        f"</Channels><Dimensions>{dims}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{data.nbytes}" MemoryBlockID="MemBlock_{number}"/><Children/></Element>'
    )


def write(path, *images, extra=""):
    """`images`: (name, array, axes in its order, LUT names[, channel tags])."""
    inner = "".join(element(*image[:4], number, *image[4:]) for number, image in enumerate(images))
    xml = (
        f'<LMSDataContainerHeader Version="2">{extra}<Element Name="project" Visibility="1"><Data><Experiment/></Data>'
        f'<Memory Size="0" MemoryBlockID="MemBlock_p"/><Children>{inner}</Children></Element></LMSDataContainerHeader>'
    )
    with open(path, "wb") as file:
        text = xml.encode("utf-16-le")
        file.write(struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(text) // 2) + text)
        for number, (_, data, *_) in enumerate(images):
            name = f"MemBlock_{number}".encode("utf-16-le")
            size = struct.pack("<IIBQBI", 0x70, 14 + len(name), 0x2A, data.nbytes, 0x2A, len(name) // 2)
            file.write(size + name + data.tobytes())
    return path


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_voxels(tmp_path, dtype):
    data = voxels((2, 3, 2, 17, 23), dtype)
    write(tmp_path / "x", ("cells", data, "tzcyx", ("Green", "Gray")))
    got = find(tmp_path / "x")
    assert got.kind == "LIF"
    check_source(got.source, data.transpose(0, 2, 1, 3, 4))
    np.testing.assert_array_equal(from_source(got.source).compute(), data.transpose(0, 2, 1, 3, 4))
    with liffile.LifFile(tmp_path / "x") as file:
        np.testing.assert_array_equal(file.images[0].asarray(), data)
    assert got.source.missing_chunks()[0] == 0


def test_what_it_says(tmp_path):
    write(tmp_path / "x.lif", ("cells", voxels((2, 3, 2, 17, 23)), "tzcyx", ("Green", "Gray")))
    image = opened(tmp_path / "x.lif")
    assert image.name == "x"
    assert (image.dims, channels(image)) == (("t", "c", "z", "y", "x"), ("Green", "Gray"))
    assert (voxel_size(image), unit(image)) == ({"z": 0.5, "y": 0.2, "x": 0.1}, "micrometer")
    assert time_step(image) == (30.0, "second")
    assert find(tmp_path / "x.lif").display == {"Green": {"color": "00FF00"}, "Gray": {"color": "FFFFFF"}}
    write(tmp_path / "y.lif", ("cells", voxels((17, 23)), "yx", ("",)))
    assert opened(tmp_path / "y.lif").dims == ("y", "x")
    write(tmp_path / "z.lif", ("cells", voxels((5, 23)), "tx", ("",)))
    got = find(tmp_path / "z.lif")
    assert got.axes == ("t", "y", "x")
    check_source(got.source, voxels((5, 23))[:, None])


@pytest.mark.parametrize("tags", [(1, 2, 3), (3, 2, 1)])
def test_colours_of_a_pixel(tmp_path, tags):
    data = voxels((3, 17, 23, 3), "u1")
    write(tmp_path / "x.lif", ("cells", data, "zyxc", ("Red", "Green", "Blue"), tags))
    got = find(tmp_path / "x.lif")
    assert (got.axes, got.channels) == (("c", "z", "y", "x"), ("red", "green", "blue"))
    check_source(got.source, np.moveaxis(data if tags[0] == 1 else data[..., ::-1], -1, 0))


def test_rows_with_a_margin(tmp_path):
    """Rows may be padded, so that they begin at a multiple of four bytes."""
    wide = voxels((3, 17, 24), "u1")
    write(tmp_path / "x.lif", ("cells", wide, "zyx", ("Gray",)))
    text = (tmp_path / "x.lif").read_bytes()
    old, new = ('NumberOfElements="24"', 'NumberOfElements="22"')
    (tmp_path / "x.lif").write_bytes(text.replace(old.encode("utf-16-le"), new.encode("utf-16-le")))
    got = find(tmp_path / "x.lif")
    check_source(got.source, wide[..., :22])


def test_scenes_and_tiles(tmp_path):
    first, second = voxels((4, 17, 23)), voxels((3, 2, 10, 12)) + np.arange(3, dtype="u2").reshape(3, 1, 1, 1)
    write(tmp_path / "x.lif", ("a", first, "zyx", ("Gray",)), ("b", second, "mcyx", ("Red", "Blue")))
    refused(r"holds 4 images: a \(z 4, y 17, x 23\), b \(tile 0\) \(c 2, y 10, x 12\), .*scene='a'", tmp_path / "x.lif")
    check_source(find(tmp_path / "x.lif", scene="a").source, first)
    for i in range(3):
        got = find(tmp_path / "x.lif", scene=f"b (tile {i})")
        check_source(got.source, second[i])
        assert got.scenes == ("a", "b (tile 0)", "b (tile 1)", "b (tile 2)")
    with pytest.raises(ParameterError, match="there is no such image"):
        find(tmp_path / "x.lif", scene="c")
    with pytest.raises(ParameterError, match=r"scene=4: has 4 image\(s\), 0 to 3"):
        find(tmp_path / "x.lif", scene=4)
    with pytest.raises(ParameterError, match="level=1: has 1 level"):
        find(tmp_path / "x.lif", scene=0, level=1)


def test_lof(tmp_path):
    """A file for one image: its voxels come first, then the XML."""
    data = voxels((2, 17, 23))
    name, xml = "LMS_Object_File".encode("utf-16-le"), element("cells", data, "cyx", ("Red", "Blue"), 0)
    text = f'<LMSDataContainerHeader Version="2">{xml}</LMSDataContainerHeader>'.encode("utf-16-le")
    with open(tmp_path / "x.lof", "wb") as file:
        file.write(struct.pack("<IIBI", 0x70, 5 + len(name), 0x2A, len(name) // 2) + name)
        file.write(struct.pack("<BIBI", 0x2A, 1, 0x2A, 0) + struct.pack("<BQ", 0x2A, data.nbytes) + data.tobytes())
        file.write(struct.pack("<IIBI", 0x70, 5 + len(text), 0x2A, len(text) // 2) + text)
    check_source(find(tmp_path / "x.lof").source, data)
    whole = (tmp_path / "x.lof").read_bytes()
    for keep in (60, 100, len(whole) - len(text) - 5, len(whole) - 2):
        (tmp_path / "cut.lof").write_bytes(whole[:keep])
        refused("is cut off: its header ends", tmp_path / "cut.lof")
    bad = text.replace("<LMS".encode("utf-16-le"), "<!DOCTYPE x><LMS".encode("utf-16-le"), 1)
    start = whole[: -len(text) - 13] + struct.pack("<IIBI", 0x70, 5 + len(bad), 0x2A, len(bad) // 2)
    (tmp_path / "bad.lof").write_bytes(start + bad)
    refused("declares entities", tmp_path / "bad.lof")


# ---- bad input -------------------------------------------------------------------------------------------------------
def test_truncated_files(tmp_path):
    write(tmp_path / "x.lif", ("a", voxels(), "zyx", ("Gray",)), ("b", voxels(), "zyx", ("Gray",)))
    whole = (tmp_path / "x.lif").read_bytes()
    header = 13 + 2 * int.from_bytes(whole[9:13], "little")
    for keep, says in (
        (20, "header ends at byte"), (header - 2, "header ends at byte"), (header, "voxels of b are not in the file"),
        (header + 100, "voxels of b are not in the file"), (len(whole) - 1, "is cut off: b ends at byte"),
    ):  # fmt: skip
        (tmp_path / "cut.lif").write_bytes(whole[:keep])
        refused(says, tmp_path / "cut.lif", scene=1)
    check_source(find(tmp_path / "cut.lif", scene="a").source, voxels())


def change(path, old, new):
    data = path.read_bytes()
    assert len(old) == len(new)
    assert old.encode("utf-16-le") in data
    path.write_bytes(data.replace(old.encode("utf-16-le"), new.encode("utf-16-le")))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('NumberOfElements="23"', 'NumberOfElements="99"', "do not fit the .* bytes stored"),
        ('NumberOfElements="23"', 'NumberOfElements="-3"', "has a negative length"),
        ('BytesInc="782"', 'BytesInc="999"', "do not fit the .* bytes stored"),
        ('BytesInc="782"', 'BytesInc="-82"', "do not fit the .* bytes stored"),
        ('Resolution="16"', 'Resolution="99"', "is no kind of voxel"),
        ('Resolution="16"', 'Resolution="a6"', "cannot be read as LIF"),
        ('DataType="0"', 'DataType="7"', "is no kind of voxel"),
        ('DimID="3"', 'DimID="2"', "has an axis twice"),
        ("<Dimensions>", "<Dimensionz>", "cannot be read as LIF"),
        ('Version="2"', 'Version="9"', "LIF"),
    ],
)
def test_headers_that_no_microscope_writes(tmp_path, old, new, says):
    write(tmp_path / "x.lif", ("a", voxels(), "zyx", ("Gray",)))
    change(tmp_path / "x.lif", old, new)
    refused(says, tmp_path / "x.lif")


def test_entities_are_refused(tmp_path):
    write(tmp_path / "x.lif", ("a", voxels(), "zyx", ("Gray",)), extra="<!DOCTYPE x>")
    refused("declares entities", tmp_path / "x.lif")


def test_too_many_tiles(tmp_path):
    write(tmp_path / "x.lif", ("a", voxels((3, 17, 23)), "myx", ("Gray",)))
    change(tmp_path / "x.lif", 'NumberOfElements="3" Origin="0"', 'NumberOfElements="3000000000"'.ljust(31))
    refused("has 3000000000 places beside t c z y x", tmp_path / "x.lif")


def test_one_channel(tmp_path):
    write(tmp_path / "x.lif", ("a", voxels(), "zyx", ("Green",)))
    got = find(tmp_path / "x.lif")
    assert (got.axes, got.display) == (("z", "y", "x"), {"": {"color": "00FF00"}})


def test_channels_of_several_kinds(tmp_path):
    write(tmp_path / "x.lif", ("a", voxels((2, 17, 23)), "cyx", ("Gray", "Red")))
    data = (tmp_path / "x.lif").read_bytes()
    old, new = 'Resolution="16"'.encode("utf-16-le"), 'Resolution="32"'.encode("utf-16-le")
    (tmp_path / "x.lif").write_bytes(data.replace(old, new, 1))
    refused("are of several kinds", tmp_path / "x.lif")


def test_no_image(tmp_path):
    write(tmp_path / "x.lif")
    refused("is a LIF file without an image", tmp_path / "x.lif")


def test_a_file_that_changes(tmp_path):
    write(tmp_path / "x.lif", ("a", voxels(), "zyx", ("Gray",)))
    source = find(tmp_path / "x.lif").source
    text = pickle.dumps(source)
    os.utime(tmp_path / "x.lif", (1, 1))
    for one in (source, pickle.loads(text)):
        with pytest.raises(InputError, match="has changed since it was opened"):
            one.read(((0, 1),) * 3)


def test_the_package_is_missing(tmp_path, monkeypatch):
    write(tmp_path / "x.lif", ("a", voxels(), "zyx", ("Gray",)))
    monkeypatch.setitem(sys.modules, "liffile", None)
    refused(r'pip install "bigbia\[formats\]"', tmp_path / "x.lif", MissingExtraError)
