"""CZI files that pylibCZIrw wrote: every box equal to what was written, and what they say."""

import contextlib
import os
import pickle
import sys

import numpy as np
import pytest
from images import check_source, opened, refused, voxels

from bigbia.errors import InputError, MissingExtraError, ParameterError
from bigbia.graph.dask import from_source
from bigbia.hyperstack import channels, unit, voxel_size
from bigbia.io.formats import found
from bigbia.io.places import Place

czi = pytest.importorskip("pylibCZIrw.czi")


def find(path, level=0, scene=None, on_missing=None):
    return found(Place(path), level, scene, on_missing)


def tile_at(file, data, at, place):
    """A tile at any axes. The writer's own `write` knows but three, and gives every file a scene."""
    text = " ".join(f"{axis}{n}" for axis, n in at.items())
    number = file._get_m_index(text)
    assert file._czi_writer.AddTile(text, file._format_data(data), *place, number, "")


def write(path, scenes, tile=None, names=("DAPI", "GFP"), skip=(), colours=False, packed=None):
    """`scenes`: arrays t c z y x, one a scene; or one without scenes. Tiles of `tile` lie side by side."""
    single = isinstance(scenes, np.ndarray)
    with czi.create_czi(str(path), compression_options=packed) as file:
        for s, data in enumerate([scenes] if single else scenes):
            for t, c, z in np.ndindex(*data.shape[:3]):
                if (t, c, z) in skip:
                    continue
                plane = data[t, c, z]
                step = tile or max(plane.shape[:2])
                for y in range(0, plane.shape[0], step):
                    for x in range(0, plane.shape[1], step):
                        part = plane[y : y + step, x : x + step]
                        part = np.ascontiguousarray(part if colours else part[..., None])
                        at = {"T": t, "C": c, "Z": z} | ({} if single else {"S": s})
                        tile_at(file, part, at, (x + 300 * s - 20, y + 7))
        shows = {
            i: czi.ChannelDisplaySettingsDataClass(
                True, czi.TintingMode.Color, czi.Rgb8Color(255, 128 * i, 0), 0.1, 0.5
            )
            for i in range(len(names))
        }
        file.write_metadata(
            document_name="x", channel_names=dict(enumerate(names)), scale_x=1.3e-7, scale_y=1.4e-7, scale_z=5e-7,
            display_settings=shows,
        )  # fmt: skip
    return path


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("tile", [None, 16])
def test_voxels(tmp_path, dtype, tile):
    data = voxels((2, 2, 3, 40, 50), dtype) + np.arange(2, dtype=dtype).reshape(2, 1, 1, 1, 1)
    write(tmp_path / "x", data, tile)
    got = find(tmp_path / "x")
    assert got.kind == "CZI"
    assert got.source.chunks == (1, 1, 1, *((16, 16) if tile else (40, 50)))
    check_source(got.source, data)
    assert got.source.missing_chunks() == (0, 12 * (12 if tile else 1))
    np.testing.assert_array_equal(from_source(got.source).compute(), data)


@pytest.mark.parametrize("packed", ["zstd0:ExplicitLevel=3", "zstd1:ExplicitLevel=2;PreProcess=HiLoByteUnpack"])
def test_packed_tiles(tmp_path, packed):
    data = voxels((1, 2, 3, 40, 50))
    write(tmp_path / "x.czi", data, 16, packed=packed)
    check_source(find(tmp_path / "x.czi").source, data[0])


def test_what_it_says(tmp_path):
    write(tmp_path / "x.czi", voxels((2, 2, 3, 20, 30)))
    image = opened(tmp_path / "x.czi")
    assert image.name == "x"
    assert (image.dims, channels(image)) == (("t", "c", "z", "y", "x"), ("DAPI", "GFP"))
    assert (voxel_size(image), unit(image)) == ({"z": 0.5, "y": 0.14, "x": 0.13}, "micrometer")
    look = find(tmp_path / "x.czi").display
    assert {name: one["color"] for name, one in look.items()} == {"DAPI": "FF0000", "GFP": "FF8000"}
    assert look["GFP"]["window"] == pytest.approx((6553.5, 32767.5))
    write(tmp_path / "y.czi", voxels((1, 1, 1, 20, 30)), names=())
    assert opened(tmp_path / "y.czi").dims == ("y", "x")
    write(tmp_path / "z.czi", voxels((1, 1, 1, 20, 30)), names=("GFP",))
    assert channels(opened(tmp_path / "z.czi")) == ("GFP",)


@pytest.mark.skipif(not hasattr(czi, "edit_czi"), reason="pylibCZIrw 5 cannot change metadata")
def test_time_step_and_scene_names(tmp_path):
    write(tmp_path / "x.czi", [voxels((2, 2, 1, 20, 30)), voxels((2, 2, 1, 10, 30))])
    with czi.edit_czi(str(tmp_path / "x.czi")) as editor, editor.edit_session() as session:
        text = session.get_xml()
        times = "<T><Positions><Interval><Start>0</Start><Increment>2.5</Increment></Interval></Positions></T>"
        scenes = '<S><Scenes><Scene Index="0" Name="A1"/><Scene Index="1" Name="B2"/></Scenes></S>'
        session.set_xml(text.replace("</Dimensions>", f"{times}{scenes}</Dimensions>"))
    got = find(tmp_path / "x.czi", scene="B2")
    assert (got.sizes["t"], got.time_unit, got.name, got.scenes) == (2.5, "second", "x B2", ("A1", "B2"))


def test_scenes(tmp_path):
    every = [voxels((1, 2, 3, 20, 30)), voxels((1, 2, 3, 24, 36))[..., ::-1].copy()]
    write(tmp_path / "x.czi", every, 16)
    refused(
        r"holds 2 images: scene 0 \(c 2, z 3, y 20, x 30\), scene 1 \(c 2, z 3, y 24, x 36\): name one",
        tmp_path / "x.czi",
    )
    for number, data in enumerate(every):
        for word in (number, str(number), f"scene {number}"):
            got = find(tmp_path / "x.czi", scene=word)
            assert got.scenes == ("scene 0", "scene 1")
        check_source(got.source, data[0])
    with pytest.raises(ParameterError, match="did you mean 'scene 1'"):
        find(tmp_path / "x.czi", scene="scene 11")
    with pytest.raises(ParameterError, match=r"scene=2: has 2 image\(s\), 0 to 1"):
        find(tmp_path / "x.czi", scene=2)
    with pytest.raises(ParameterError, match="level=1: has 1 level"):
        find(tmp_path / "x.czi", scene=0, level=1)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_colours(tmp_path, dtype):
    data = np.random.default_rng(0).integers(0, 250, (2, 1, 3, 20, 30, 3)).astype(dtype)  # blue first
    write(tmp_path / "x.czi", data, colours=True, names=("TL",))
    got = find(tmp_path / "x.czi")
    assert (got.axes, got.channels) == (("t", "c", "z", "y", "x"), ("red", "green", "blue"))
    check_source(got.source, np.moveaxis(data[:, 0, ..., ::-1], -1, 1))


def test_planes_that_are_absent(tmp_path):
    data = voxels((2, 2, 3, 20, 30))
    write(tmp_path / "x.czi", data, skip={(1, 0, 2)})
    data[1, 0, 2] = 0
    source = find(tmp_path / "x.czi").source
    assert source.missing_chunks() == (1, 12)
    check_source(source, data)
    strict = find(tmp_path / "x.czi", on_missing="error").source
    strict.read(((0, 1), (0, 2), (0, 3), (0, 20), (0, 30)))
    with pytest.raises(InputError, match=r"the plane is missing .*t=1\.\.1, c=0\.\.0, z=2\.\.2"):
        strict.read(((1, 2), (0, 2), (0, 3), (0, 20), (0, 30)))


def read(path):
    got = find(path)
    return got and got.source.read(tuple((0, min(n, 50)) for n in got.source.shape))


# ---- bad input -------------------------------------------------------------------------------------------------------
def test_channels_of_several_kinds(tmp_path):
    with czi.create_czi(str(tmp_path / "x.czi")) as file:
        for c, kind in enumerate(("u1", "u2")):
            file.write(data=np.zeros((10, 10, 1), kind), plane={"C": c})
    refused("channels are of several kinds", tmp_path / "x.czi")


def test_axes_that_no_image_has(tmp_path):
    with czi.create_czi(str(tmp_path / "x.czi")) as file:
        for phase in range(3):
            tile_at(file, np.zeros((10, 10, 1), "u1"), {"C": 0, "H": phase}, (0, 0))
    refused(r"has 3 along H \(phase\)", tmp_path / "x.czi")


def test_truncated_and_damaged(tmp_path):
    data = voxels((1, 2, 3, 40, 50))[0]
    write(tmp_path / "x.czi", data[None])
    whole = (tmp_path / "x.czi").read_bytes()
    for keep in (10, 16, 100, 600, len(whole) // 2, len(whole) - 100):
        (tmp_path / "cut.czi").write_bytes(whole[:keep])
        # The list of tiles may be whole and tiles gone: then their voxels are refused.
        with pytest.raises(InputError, match=r"cannot be read as CZI|cannot be decoded|without an image"):
            read(tmp_path / "cut.czi")
    rng = np.random.default_rng(0)
    for _ in range(40):
        bad = bytearray(whole)
        at = int(rng.integers(0, 2000))
        bad[at : at + 8] = rng.bytes(8)
        (tmp_path / "bad.czi").write_bytes(bad)
        with contextlib.suppress(InputError, ParameterError):
            read(tmp_path / "bad.czi")


def segments(data, name):
    at = 0
    while (at := data.find(name.ljust(16, b"\0"), at)) >= 0:
        yield at
        at += 16


@pytest.mark.parametrize("packed", [None, "zstd1:ExplicitLevel=2;PreProcess=HiLoByteUnpack"])
@pytest.mark.parametrize(
    ("segment", "at", "new", "says"),
    [
        ("SUBBLOCK", 16, b"\xff" * 6, "bytes long, the file has"),
        ("SUBBLOCK", 32, b"\xff" * 4, "is longer than its segment"),  # of its metadata
        ("SUBBLOCK", 36, b"\xff" * 4, "is longer than its segment"),  # of its attachment
        ("SUBBLOCK", 40, b"\xff" * 5, "is longer than its segment"),  # of its voxels
        ("SUBBLOCK", 40, b"\x10" + bytes(7), "16 bytes, 1200 were expected|cut off|cannot be decoded"),
        ("SUBBLOCK", 50, b"\x08", "is not the one that the directory names"),  # the type of its pixels
        ("DIRECTORY", 32, b"\xff" * 3, "."),  # how many tiles there are
        ("DIRECTORY", 166, b"\xff" * 6, "."),  # where the first one lies
        ("FILE", 84, b"\xff" * 6, "are asked for"),  # where the directory lies
        ("METADATA", 32, b"\xff" * 3, "longer than their segment"),
    ],
)
def test_lengths_that_libczi_would_follow_out_of_the_file(tmp_path, segment, at, new, says, packed):
    write(tmp_path / "x.czi", voxels((1, 2, 3, 20, 30)), packed=packed)
    data = bytearray((tmp_path / "x.czi").read_bytes())
    place = next(segments(data, b"ZISRAW" + segment.encode())) + at
    data[place : place + len(new)] = new
    (tmp_path / "x.czi").write_bytes(data)
    with pytest.raises(InputError, match=says) as caught:
        read(tmp_path / "x.czi")
    assert "\n" not in str(caught.value)


def test_a_file_that_changes(tmp_path):
    write(tmp_path / "x.czi", voxels((1, 2, 3, 20, 30)))
    source = find(tmp_path / "x.czi").source
    text = pickle.dumps(source)
    os.utime(tmp_path / "x.czi", (1, 1))
    for one in (source, pickle.loads(text)):
        with pytest.raises(InputError, match="has changed since it was opened"):
            one.read(((0, 1),) * 4)


def test_the_package_is_missing(tmp_path, monkeypatch):
    write(tmp_path / "x.czi", voxels((1, 1, 1, 20, 30)))
    monkeypatch.setitem(sys.modules, "pylibCZIrw.czi", None)
    refused(r'pip install "bigbia\[formats\]"', tmp_path / "x.czi", MissingExtraError)
