"""ND2 files made by hand, chunk by chunk, as the nd2 library reads them. Old files (JPEG 2000) by a stand-in for it."""

import os
import pickle
import struct
import sys
import types
import zlib

import numpy as np
import pytest
from images import check_source, opened, refused, voxels

from bigbia.errors import InputError, MissingExtraError, ParameterError
from bigbia.graph.dask import from_source
from bigbia.hyperstack import channels, time_step, unit, voxel_size
from bigbia.io.formats import found
from bigbia.io.formats import nd2 as reader
from bigbia.io.places import Place

nd2 = pytest.importorskip("nd2")

MAGIC = 0x0ABECEDA


def find(path, level=0, scene=None, on_missing=None):
    return found(Place(path), level, scene, on_missing)


def tree(values):
    """Metadata as ND2 writes them: type, name and value, one after the other."""
    out = b""
    for key, value in values.items():
        name = (key + "\0").encode("utf-16-le")
        if isinstance(value, dict):
            inner, kind = tree(value), 11
            length = 2 + len(name) + 12 + len(inner)
            data = struct.pack("<IQ", len(value), length) + inner + bytes(8 * len(value))
        elif isinstance(value, bool):
            data, kind = struct.pack("B", value), 1
        elif isinstance(value, int):
            data, kind = struct.pack("<I", value), 3
        elif isinstance(value, float):
            data, kind = struct.pack("<d", value), 6
        else:
            data, kind = (value + "\0").encode("utf-16-le"), 8
        out += struct.pack("BB", kind, len(name) // 2) + name + data
    return out


def chunk(name, data, room=48):
    return struct.pack("<IIQ", MAGIC, max(room, len(name)), len(data)) + name.ljust(room, b"\0") + data


def loop(kind, count, below=None, **words):
    times = {"uiCount": count, "dStart": 0.0, "dPeriod": 2500.0, "dDuration": 0.0}
    stacks = {"uiCount": count, "dZLow": 0.0, "dZHigh": 1.0, "dZStep": 0.5, "dZHome": 0.0, "iType": 2}
    points = {
        "Points": {
            f"i{i:010}": {"dPosX": 0.0, "dPosY": 0.0, "pPosName": n} for i, n in enumerate(words.get("names", []))
        }
    }
    parameters = {"t": (1, times), "p": (2, points), "z": (4, stacks)}[kind]
    return {"eType": parameters[0], "uLoopPars": parameters[1]} | (
        {"ppNextLevelEx": {"i0000000000": below}} if below else {}
    )


def write(
    path,
    data,
    axes="tz",
    names=("DAPI", "GFP"),
    packed=False,
    skip=(),
    margin=0,
    calibrated=True,
    positions=("A", "B"),
    colours=False,
):
    """`data`: loops, then y x c, as frames hold it."""
    *loops, height, width, count = data.shape
    experiment = None
    for axis, n in reversed(list(zip(axes, loops))):
        experiment = loop(axis, n, experiment, names=positions)
    row = width * count * data.dtype.itemsize + margin
    attributes = {
        "uiWidth": width, "uiHeight": height, "uiWidthBytes": row, "uiComp": count,
        "uiBpcInMemory": data.dtype.itemsize * 8, "uiBpcSignificant": data.dtype.itemsize * 8,
        "uiSequenceCount": int(np.prod(loops)), "eCompression": 0 if packed else 2, "dCompressionParam": 1.0,
    }  # fmt: skip
    planes = {
        f"a{i}": {
            "uiCompCount": count if colours else 1, "sDescription": name, "uiColor": 255 << (8 * i),
            "pFluorescentProbe": {"m_sName": name},
        }
        for i, name in enumerate(names)
    }  # fmt: skip
    picture = {
        "bCalibrated": calibrated, "dCalibration": 0.13, "sPicturePlanes": {"uiCount": len(names), "sPlaneNew": planes},
    }  # fmt: skip
    parts = [
        (b"ImageAttributesLV!", tree({"SLxImageAttributes": attributes})),
        (b"ImageMetadataSeqLV|0!", tree({"SLxPictureMetadata": picture})),
    ]
    if experiment:
        parts.append((b"ImageMetadataLV!", tree({"SLxExperiment": experiment})))
    for number, index in enumerate(np.ndindex(*loops)):
        if index in skip:
            continue
        rows = data[index].reshape(height, -1).view("u1")
        raw = np.pad(rows, ((0, 0), (0, margin)), constant_values=99).tobytes()
        parts.append((f"ImageDataSeq|{number}!".encode(), bytes(8) + (zlib.compress(raw) if packed else raw)))
    with open(path, "wb") as file:
        file.write(struct.pack("<IIQ32s64s", MAGIC, 32, 64, b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0"))
        listed = b""
        for name, content in parts:
            listed += name + struct.pack("<QQ", file.tell(), len(content))
            # Frames of the library's own files begin 4096 bytes behind their chunk's begin.
            file.write(chunk(name, content, 4072 if name.startswith(b"ImageDataSeq") else 48))
        at = file.tell()
        end = b"ND2 CHUNK MAP SIGNATURE 0000001!"
        file.write(chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", listed + end + struct.pack("<Q", at)))
        file.write(end + struct.pack("<Q", at))
    return path


def expected(data):
    """t c z y x of loops, y x c."""
    return np.moveaxis(data, -1, -3)


def stack(shape, dtype="u2"):
    return voxels(shape, dtype) + np.arange(shape[-1], dtype=dtype)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("dtype", "margin"), [("u1", 0), ("u1", 2), ("u2", 0), ("u2", 4), ("f4", 0)])
def test_voxels(tmp_path, dtype, packed, margin):
    data = stack((2, 3, 17, 23, 2), dtype)
    write(tmp_path / "x", data, packed=packed, margin=margin)
    got = find(tmp_path / "x")
    assert got.kind == "ND2"
    assert got.axes == ("t", "z", "c", "y", "x")
    check_source(got.source, expected(data))
    assert got.source.missing_chunks() == (0, 6)
    np.testing.assert_array_equal(from_source(got.source).compute(), expected(data))
    with nd2.ND2File(tmp_path / "x") as file:
        assert dict(file.sizes) == {"T": 2, "Z": 3, "C": 2, "Y": 17, "X": 23}
        np.testing.assert_array_equal(file.asarray(), expected(data))


def test_what_it_says(tmp_path):
    write(tmp_path / "x.nd2", stack((2, 3, 17, 23, 2)))
    image = opened(tmp_path / "x.nd2")
    assert image.name == "x"
    assert channels(image) == ("DAPI", "GFP")
    assert (voxel_size(image), unit(image)) == ({"z": 0.5, "y": 0.13, "x": 0.13}, "micrometer")
    assert time_step(image) == (2.5, "second")
    assert find(tmp_path / "x.nd2").display == {"DAPI": {"color": "FF0000"}, "GFP": {"color": "00FF00"}}
    write(tmp_path / "y.nd2", stack((17, 23, 1)), axes="", names=("GFP",), calibrated=False)
    got = find(tmp_path / "y.nd2")
    assert (got.axes, got.sizes, got.unit) == (("y", "x"), {}, None)
    check_source(got.source, stack((17, 23, 1))[..., 0])


def test_colours(tmp_path):
    data = stack((3, 17, 23, 3), "u1")
    write(tmp_path / "x.nd2", data, axes="z", names=("TL",), colours=True)
    got = find(tmp_path / "x.nd2")
    assert (got.axes, got.channels) == (("z", "c", "y", "x"), ("red", "green", "blue"))
    check_source(got.source, expected(data))


def test_positions(tmp_path):
    data = stack((2, 2, 3, 17, 23, 2))
    write(tmp_path / "x.nd2", data, axes="tpz")
    refused(r"holds 2 images: A \(t 2, z 3, c 2, y 17, x 23\), B .*name one, as in scene='A'", tmp_path / "x.nd2")
    for number, word in enumerate(("A", 1)):
        got = find(tmp_path / "x.nd2", scene=word)
        check_source(got.source, expected(data[:, number]))
        assert got.scenes == ("A", "B")
    with pytest.raises(ParameterError, match="there is no such image, known: A, B"):
        find(tmp_path / "x.nd2", scene="C1")
    with pytest.raises(ParameterError, match="level=1: has 1 level"):
        find(tmp_path / "x.nd2", scene=0, level=1)


@pytest.mark.parametrize("packed", [False, True])
def test_frames_that_are_absent(tmp_path, packed):
    """An acquisition that was stopped: the library reads zeros."""
    data = stack((2, 3, 17, 23, 2))
    write(tmp_path / "x.nd2", data, skip={(1, 2)}, packed=packed)
    data[1, 2] = 0
    source = find(tmp_path / "x.nd2").source
    assert source.missing_chunks() == (1, 6)
    check_source(source, expected(data))
    strict = find(tmp_path / "x.nd2", on_missing="error").source
    strict.read(((0, 1), (0, 3), (0, 2), (0, 17), (0, 23)))
    with pytest.raises(InputError, match=r"frame 5 is missing .*t=1\.\.1, z=2\.\.2"):
        strict.read(((0, 2), (0, 3), (0, 2), (0, 17), (0, 23)))


# ---- bad input -------------------------------------------------------------------------------------------------------
def test_truncated_files(tmp_path):
    write(tmp_path / "x.nd2", stack((2, 3, 17, 23, 2)))
    whole = (tmp_path / "x.nd2").read_bytes()
    for keep in (5, 40, 200, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.nd2").write_bytes(whole[:keep])
        refused("cannot be read as ND2|is cut off", tmp_path / "cut.nd2")


@pytest.mark.parametrize("packed", [False, True])
def test_frames_that_are_damaged(tmp_path, packed):
    data = stack((2, 3, 17, 23, 2))
    write(tmp_path / "x.nd2", data, packed=packed)
    whole = (tmp_path / "x.nd2").read_bytes()
    at = whole.index(b"ImageDataSeq|4!") - 16
    everything = tuple((0, n) for n in expected(data).shape)

    def after(change, says):
        bad = bytearray(whole)
        change(bad)
        (tmp_path / "bad.nd2").write_bytes(bad)
        source = find(tmp_path / "bad.nd2").source
        np.testing.assert_array_equal(source.read(((0, 1), *everything[1:])), expected(data)[:1])
        with pytest.raises(InputError, match=rf"t=1\.\.1, z=1\.\.1.*frame 4: .*{says}.*damaged, restore"):
            source.read(everything)

    after(lambda b: b.__setitem__(slice(at, at + 4), b"abcd"), "is not at byte")
    after(lambda b: b.__setitem__(slice(at + 16, at + 31), b"ImageDataSeq|3!"), "is not at byte")
    after(lambda b: b.__setitem__(slice(at + 8, at + 16), struct.pack("<Q", 9)), "expected|cut off|decode")
    after(lambda b: b.__setitem__(slice(at + 8, at + 16), struct.pack("<Q", 1 << 40)), "is cut off|decode")
    place = whole.rindex(b"ImageDataSeq|4!") + 15
    after(lambda b: b.__setitem__(slice(place, place + 8), struct.pack("<Q", 1 << 50)), "lies at byte")
    if packed:
        after(lambda b: b.__setitem__(slice(at + 4096 + 10, at + 4096 + 40), bytes(30)), "")


def test_a_frame_that_decodes_to_more_than_it_declares(tmp_path):
    data = stack((2, 17, 23, 2))
    write(tmp_path / "x.nd2", data, axes="z", packed=True)
    whole = (tmp_path / "x.nd2").read_bytes()
    # The same frames, declared half as high: each decodes to twice of what it should.
    name = "uiHeight\0".encode("utf-16-le")
    at = whole.index(name) + len(name)
    (tmp_path / "x.nd2").write_bytes(whole[:at] + struct.pack("<I", 8) + whole[at + 4 :])
    source = find(tmp_path / "x.nd2").source
    with pytest.raises(InputError, match="decodes to more bytes, 736 are declared"):
        source.read(tuple((0, n) for n in source.shape))


def test_metadata_that_no_microscope_writes(tmp_path):
    for key, value, says in (
        ("uiBpcInMemory", 24, "values of 24 bit"), ("uiWidthBytes", 10, "rows are 10 bytes"), ("uiHeight", 0, "frames of 0 x"),
        ("uiWidthBytes", 1 << 31, "rows are 2147483648 bytes"),
        ("uiComp", 5, "2 channels with 2 colours"),
    ):  # fmt: skip
        write(tmp_path / "x.nd2", stack((2, 17, 23, 2)), axes="z")
        whole = (tmp_path / "x.nd2").read_bytes()
        name = f"{key}\0".encode("utf-16-le")
        at = whole.index(name) + len(name)
        (tmp_path / "x.nd2").write_bytes(whole[:at] + struct.pack("<I", value) + whole[at + 4 :])
        refused(says, tmp_path / "x.nd2")


def test_a_loop_twice(tmp_path):
    write(tmp_path / "x.nd2", stack((2, 3, 4, 17, 23, 2)), axes="tzt")
    refused("has a loop of kind TimeLoop", tmp_path / "x.nd2")


def test_a_file_that_changes(tmp_path):
    write(tmp_path / "x.nd2", stack((2, 17, 23, 2)), axes="z")
    source = find(tmp_path / "x.nd2").source
    text = pickle.dumps(source)
    os.utime(tmp_path / "x.nd2", (1, 1))
    for one in (source, pickle.loads(text)):
        with pytest.raises(InputError, match="has changed since it was opened"):
            one.read(((0, 1),) * 4)


def test_the_package_is_missing(tmp_path, monkeypatch):
    write(tmp_path / "x.nd2", stack((2, 17, 23, 2)), axes="z")
    monkeypatch.setitem(sys.modules, "nd2", None)
    refused(r'pip install "bigbia\[formats\]"', tmp_path / "x.nd2", MissingExtraError)


# ---- old files -------------------------------------------------------------------------------------------------------
DATA = stack((2, 3, 17, 23, 2))


class Old:
    """What the library shows of an old file."""

    is_legacy = True
    attributes = types.SimpleNamespace(
        bitsPerComponentInMemory=16, componentCount=2, heightPx=17, widthPx=23, widthBytes=None, channelCount=2,
        compressionType=None, pixelDataType="unsigned", sequenceCount=6,
    )  # fmt: skip
    experiment = (
        types.SimpleNamespace(type="TimeLoop", count=2, parameters=types.SimpleNamespace(periodMs=500.0)),
        types.SimpleNamespace(type="ZStackLoop", count=3, parameters=None),
    )
    metadata = types.SimpleNamespace(channels=[])

    def read_frame(self, number):
        if number == 4:
            raise RuntimeError("no JPEG 2000")
        return np.moveaxis(DATA[divmod(number, 3)], -1, 0)

    def close(self):
        pass


def test_old_files(tmp_path, monkeypatch):
    (tmp_path / "x.nd2").write_bytes(b"\x00\x00\x00\x0cjP  \r\n\x87\n")
    monkeypatch.setattr(reader, "_library", lambda place: Old())
    got = find(tmp_path / "x.nd2")
    assert (got.axes, got.sizes) == (("t", "z", "c", "y", "x"), {"t": 0.5})
    first = ((0, 1), (0, 3), (0, 2), (0, 17), (0, 23))
    for source in (got.source, pickle.loads(pickle.dumps(got.source))):
        np.testing.assert_array_equal(source.read(first), expected(DATA)[:1])
    with pytest.raises(InputError, match="cannot be decoded: no JPEG 2000"):
        got.source.read(((1, 2), *first[1:]))
