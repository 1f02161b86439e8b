"""Writing OME-Zarr: valid, complete, in whole shards; what is written opens as it was; pyramids to the bit."""

import json
import os
import re
from itertools import product

import numpy as np
import pytest
import zarr
from images import opened, voxels

from bigbia.errors import ParameterError, RunError, StorageError
from bigbia.hyperstack import channels, hyperstack, origin, time_step, unit, voxel_size
from bigbia.io.ome_zarr import create_image, downsample, level_shapes, register_label, write_block
from bigbia.io.opening import describe

ZYX = {"axes": "zyx", "voxel_size": {"z": 0.29, "y": 0.26, "x": 0.26}, "unit": "micrometer", "channels": None}


def whole(array):
    return tuple((0, n) for n in array.shape)


def write(folder, data, how="mean", **words):
    """An image with its pyramid, in one go."""
    words = {**ZYX, "name": "cells", "chunks": (16,) * data.ndim, **words}
    arrays = create_image(folder, shape=data.shape, dtype=data.dtype, **words)
    before = arrays[0]
    write_block(before, whole(before), data)
    for array in arrays[1:]:
        steps = [-(-n // m) for n, m in zip(before.shape, array.shape)]
        write_block(array, whole(array), downsample(before[...], steps, how))
        before = array
    return arrays


def validate(path, version, kind="Image"):
    """By the two validators there are; warnings count."""
    import warnings

    import ome_zarr_models.v04
    import ome_zarr_models.v05
    import yaozarrs

    models = {"0.4": ome_zarr_models.v04, "0.5": ome_zarr_models.v05}[version]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if (version, kind) != ("0.4", "Labels"):  # in 0.4 such a group says no version, and yaozarrs asks for one
            yaozarrs.validate_zarr_store(str(path))
        getattr(models, kind).from_zarr(zarr.open_group(path, mode="r"))


@pytest.mark.parametrize(
    ("version", "words"),
    [("0.5", {}), ("0.4", {}), ("0.5", {"shards": (32, 32, 32)}), ("0.5", {"voxel_size": None, "unit": None})],
    ids=["0.5", "0.4", "0.5 sharded", "0.5 without sizes"],
)
@pytest.mark.parametrize("dtype", ["bool", "u1", "u2", "f4"])
def test_images_are_valid_and_open_as_they_were(tmp_path, version, words, dtype):
    data = voxels((40, 70, 90), dtype)
    arrays = write(tmp_path / "x.zarr", data, version=version, levels=3, **words)
    assert [a.path for a in arrays] == ["0", "1", "2"]
    validate(tmp_path / "x.zarr", version)
    image = opened(tmp_path / "x.zarr", on_missing="error")
    np.testing.assert_array_equal(image.values, data)
    if "voxel_size" not in words:
        assert (voxel_size(image), unit(image)) == (ZYX["voxel_size"], "micrometer")
        assert voxel_size(opened(tmp_path / "x.zarr", level=2)) == {"z": 1.16, "y": 1.04, "x": 1.04}
    assert unit(image) == words.get("unit", "micrometer")
    np.testing.assert_array_equal(opened(tmp_path / "x.zarr", level=1).values, downsample(data, (2, 2, 2)))
    found = describe(tmp_path / "x.zarr")
    assert found["kind"] == f"OME-Zarr {version}"
    assert len(found["levels"]) == 3
    assert found["missing_chunks"]["absent"] == 0


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_channels_times_and_origin_round_trip(tmp_path, version):
    data = voxels((2, 3, 4, 10, 12))
    size = {"z": 0.5, "y": 0.1, "x": 0.1}
    image = hyperstack(
        data, "tczyx", size, "um", ["DAPI", "GFP", "RFP"], origin={"x": 3.0}, time_step=2.5, time_unit="min"
    )
    write(
        tmp_path / "x.zarr", data, version=version, axes="tczyx", voxel_size=voxel_size(image), unit=unit(image),
        channels=channels(image), origin=origin(image), time_step=2.5, time_unit=time_step(image)[1], levels=2,
        windows=[(0, 100), (5, 50), (0, 1)], chunks=(1, 1, 4, 5, 6),
    )  # fmt: skip
    validate(tmp_path / "x.zarr", version)
    again = opened(tmp_path / "x.zarr")
    np.testing.assert_array_equal(again.values, data)
    for what in (voxel_size, unit, channels, time_step, origin):
        assert what(again) == what(image), what.__name__
    # A voxel of level 1 stands for voxels 0 and 1: its middle lies half a voxel further on.
    assert origin(opened(tmp_path / "x.zarr", level=1)) == {"t": 0.0, "z": 0.0, "y": 0.05, "x": 3.05}
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    omero = (group.attrs["ome"] if version == "0.5" else group.attrs)["omero"]
    assert omero["channels"][1]["window"] == {"min": 0.0, "max": 65535.0, "start": 5.0, "end": 50.0}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_are_valid_and_listed(tmp_path, version):
    data = voxels((40, 70, 90), "u4")
    write(tmp_path / "x.zarr", data.astype("u2"), version=version, levels=2)
    for name in ("nuclei", "cells", "nuclei"):
        if not (tmp_path / "x.zarr/labels" / name).exists():
            colors = [(1, (255, 0, 0, 255)), (2, (0, 255, 0, 128))]
            folder = tmp_path / "x.zarr/labels" / name
            write(folder, data, "nearest", version=version, levels=2, labels=True, colors=colors, name=name)
        register_label(zarr.open_group(tmp_path / "x.zarr"), name)
    register_label(tmp_path / "x.zarr", "cells")
    validate(tmp_path / "x.zarr", version)
    validate(tmp_path / "x.zarr/labels/nuclei", version, "ImageLabel")
    validate(tmp_path / "x.zarr/labels", version, "Labels")
    assert describe(tmp_path / "x.zarr")["labels"] == ["nuclei", "cells"]
    meta = zarr.open_group(tmp_path / "x.zarr/labels/nuclei", mode="r").attrs
    assert (meta["ome"] if version == "0.5" else meta)["image-label"]["source"] == {"image": "../../"}
    labels = opened(tmp_path / "x.zarr/labels/nuclei")
    np.testing.assert_array_equal(labels.values, data)
    assert voxel_size(labels) == ZYX["voxel_size"]


def test_ome_zarr_reads_it(tmp_path):
    """The reference implementation, with which napari-ome-zarr opens a file."""
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    data = voxels((40, 70, 90))
    write(tmp_path / "x.zarr", data, levels=2)
    (node,) = Reader(parse_url(tmp_path / "x.zarr"))()
    np.testing.assert_array_equal(node.data[0].compute(), data)
    assert len(node.data) == 2


def test_the_coarser_levels_of_an_input(tmp_path):
    """A root image made of the input's pyramid without its finest level."""
    words = {**ZYX, "name": None, "chunks": (16, 16, 16), "dtype": "u2"}
    arrays = create_image(tmp_path / "x.zarr", shape=(60, 1024, 1024), first_level=1, **words)
    assert [a.shape for a in arrays] == [(30, 512, 512), (15, 256, 256)]
    image = opened(tmp_path / "x.zarr")
    assert voxel_size(image) == {"z": 0.58, "y": 0.52, "x": 0.52}
    assert origin(image) == {"z": 0.145, "y": 0.13, "x": 0.13}
    small = create_image(tmp_path / "y.zarr", shape=(60, 64, 64), first_level=1, **words)
    assert [a.shape for a in small] == [(30, 32, 32)]
    labels_first = create_image(tmp_path / "z.zarr/labels/n", shape=(4, 4, 4), labels=True, **words)
    register_label(tmp_path / "z.zarr", "n")
    assert len(labels_first) == 1
    create_image(tmp_path / "z.zarr", shape=(4, 4, 4), **words)  # the root may come after what lies in it
    validate(tmp_path / "z.zarr", "0.5")


def test_every_chunk_is_there_and_has_a_checksum(tmp_path):
    zeros = np.zeros((32, 32, 32), "u2")
    (array,) = write(tmp_path / "x.zarr", zeros)
    assert len(list((tmp_path / "x.zarr/0/c").rglob("*"))) == 2 + 4 + 8
    codecs = json.loads((tmp_path / "x.zarr/0/zarr.json").read_text())["codecs"]
    assert [c["name"] for c in codecs] == ["bytes", "blosc", "crc32c"]
    write(tmp_path / "bytes.zarr", zeros.astype("u1"))
    codecs = json.loads((tmp_path / "bytes.zarr/0/zarr.json").read_text())["codecs"]
    assert [c["name"] for c in codecs] == ["bytes", "zstd", "crc32c"]
    (shards,) = write(tmp_path / "s.zarr", zeros, shards=(32, 32, 32))
    assert shards.shards == (32, 32, 32)
    raw = (tmp_path / "s.zarr/0/c/0/0/0").read_bytes()
    assert b"\xff" * 16 not in raw[-132:]  # no inner chunk is marked as absent
    again = zarr.open_array(
        tmp_path / "x.zarr/0", mode="r+"
    )  # as another process would: the setting is not in the file
    for file in (tmp_path / "x.zarr/0/c").rglob("*"):
        if file.is_file():
            file.unlink()
    write_block(again, ((0, 16), (0, 16), (0, 16)), zeros[:16, :16, :16])
    assert (tmp_path / "x.zarr/0/c/0/0/0").is_file()
    assert array.shape == again.shape


def test_chunks_are_cut_to_small_levels(tmp_path):
    arrays = create_image(
        tmp_path / "x.zarr", shape=(10, 100, 300), dtype="u1", name=None, chunks=(64, 64, 64), shards=(128,) * 3,
        levels=3, **ZYX,
    )  # fmt: skip
    assert [(a.chunks, a.shards) for a in arrays] == [
        ((10, 64, 64), (10, 128, 128)),
        ((5, 50, 64), (5, 50, 128)),
        ((3, 25, 64), (3, 25, 128)),
    ]


@pytest.mark.parametrize(
    ("box", "shards", "says"),
    [
        (((0, 20), (0, 64), (0, 64)), True, "axis z: block 20 is not a whole number of shards (32): two tasks would "
         "write one file and lose each other's voxels; use 32"),
        (((0, 32), (0, 33), (0, 64)), True, "axis y: block 33 is not a whole number of shards (32)"),
        (((16, 48), (0, 64), (0, 64)), True, "axis z: block 16 to 48 does not begin on shards (32)"),
        (((0, 20), (0, 64), (0, 64)), False, "axis z: block 20 is not a whole number of chunks (16)"),
        (((0, 32), (0, 64), (64, 96)), True, "axis x: 64 to 96 is not within the array's 70 voxels"),
        (((0, 0), (0, 64), (0, 64)), True, "axis z: 0 to 0 is not within"),
        (((0, 32), (0, 64)), True, "a box of 2 axes for an array of 3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_blocks_that_two_tasks_would_share_are_refused(tmp_path, box, shards, says, version):
    if version == "0.4" and shards:
        pytest.skip("0.4 has no shards")
    words = {**ZYX, "chunks": (16,) * 3, "shards": (32,) * 3 if shards else None, "version": version, "name": None}
    (array,) = create_image(tmp_path / "x.zarr", shape=(70,) * 3, dtype="u2", **words)
    with pytest.raises(ParameterError, match=re.escape(says)):
        write_block(array, box, np.zeros(tuple(b - a for a, b in box), "u2"))
    assert not list((tmp_path / "x.zarr/0").rglob("c/*"))


def test_blocks_are_not_broadcast_or_cast(tmp_path):
    (array,) = create_image(tmp_path / "x.zarr", shape=(70,) * 3, dtype="u2", chunks=(16,) * 3, name=None, **ZYX)
    box = ((64, 70), (0, 16), (16, 32))
    write_block(array, box, np.full((6, 16, 16), 7, "u2"))
    assert (array[64:, :16, 16:32] == 7).all()
    with pytest.raises(ParameterError, match=r"block z=64..69, .* holds \(1, 1, 1\) voxels, the box is \(6, 16, 16\)"):
        write_block(array, box, np.zeros((1, 1, 1), "u2"))
    for dtype in ("u1", "f4", "i2", "u4"):
        with pytest.raises(ParameterError, match=f"is {np.dtype(dtype)}, the array is uint16: convert it"):
            write_block(array, box, np.zeros((6, 16, 16), dtype))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"axes": "xyz"}, r"axes x y z: OME-Zarr wants them in the order t c z y x: image.transpose\('z', 'y', 'x'\)"),
        ({"axes": "zyq"}, "axes among t c z y x"),
        ({"chunks": (16, 16)}, r"chunks=\(16, 16\): one length of 1 or more for each axis"),
        ({"chunks": (16, 0, 16)}, "one length of 1 or more"),
        ({"shards": (32, 24, 32)}, r"axis y: shard 24 is not a whole number of chunks \(16\): use 32"),
        ({"shards": (32, 32, 32), "version": "0.4"}, "OME-Zarr 0.4 has none"),
        ({"version": "0.6"}, "version='0.6': OME-Zarr is written as 0.4 or 0.5"),
        ({"dtype": "c8"}, "an image of complex64"),
        ({"dtype": "f4", "labels": True}, "labels of float32: labels are integers"),
        ({"dtype": "bool", "labels": True}, "labels of bool: labels are integers"),
        ({"levels": 0}, "a pyramid has at least 1 level"),
    ],
)
def test_refused_images(tmp_path, words, says):
    words = {**ZYX, "shape": (64,) * 3, "dtype": "u2", "chunks": (16,) * 3, "name": None, **words}
    with pytest.raises(ParameterError, match=says):
        create_image(tmp_path / "x.zarr", **words)
    assert not (tmp_path / "x.zarr/0").exists()


def test_an_image_is_not_written_over(tmp_path):
    words = {**ZYX, "shape": (64,) * 3, "dtype": "u2", "chunks": (16,) * 3, "name": None}
    create_image(tmp_path / "x.zarr", **words)
    with pytest.raises(RunError, match=r"x.zarr: already holds an image"):
        create_image(tmp_path / "x.zarr", **words)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        create_image(tmp_path / "file/x.zarr", **words)


def test_a_full_disk_is_named_with_its_block(tmp_path, monkeypatch):
    (array,) = create_image(tmp_path / "x.zarr", shape=(32,) * 3, dtype="u2", chunks=(16,) * 3, name=None, **ZYX)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        StorageError, match=r"block z=0..31, y=0..31, x=0..31: .*0/c/0/0/0: cannot be written: No space left"
    ) as caught:
        write_block(array, whole(array), np.zeros((32,) * 3, "u2"))
    assert caught.value.errno == 28
    assert not [p for p in (tmp_path / "x.zarr/0").rglob("*") if p.suffix == ".tmp"]


# --- pyramids ---------------------------------------------------------------------------------------------------------


def test_level_shapes():
    def shapes(*args, **words):
        return [shape for shape, _ in level_shapes(*args, **words)]

    assert shapes((60, 256, 256), "zyx") == [(60, 256, 256)]
    assert shapes((512,) * 3, "zyx") == [(512,) * 3, (256,) * 3]
    flat = {"z": 2.0, "y": 0.25, "x": 0.25}
    assert level_shapes((64, 2048, 2048), "zyx", flat) == [
        ((64, 2048, 2048), (1, 1, 1)),
        ((64, 1024, 1024), (1, 2, 2)),
        ((64, 512, 512), (1, 4, 4)),
        ((64, 256, 256), (1, 8, 8)),
    ]
    assert shapes((64, 2048, 2048), "zyx", flat, levels=5)[-1] == (32, 128, 128)
    assert shapes((2, 3, 1, 1025, 999), "tczyx") == [
        (2, 3, 1, 1025, 999),
        (2, 3, 1, 513, 500),
        (2, 3, 1, 257, 250),
        (2, 3, 1, 129, 125),
    ]
    assert shapes((3, 5), "yx", levels=9) == [(3, 5), (2, 3), (1, 2), (1, 1)]
    assert shapes((1000,), "z") == [(1000,), (500,), (250,)]


def reference(block, factors, how):
    """Windows, one by one."""
    out = np.empty([-(-n // f) for n, f in zip(block.shape, factors)], block.dtype)
    for index in np.ndindex(*out.shape):
        window = block[tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors))].ravel()
        if how == "nearest":
            out[index] = window[0]
        elif how == "mode":
            values, counts = np.unique(window, return_counts=True)
            out[index] = values[counts.argmax()]
        elif block.dtype.kind == "f":
            total = 0.0
            for value in window.astype("f8"):
                total += value
            out[index] = total / window.size
        else:
            total, half = sum(map(int, window)), window.size
            quotient, rest = divmod(total, half)
            out[index] = quotient + (2 * rest > half or (2 * rest == half and quotient % 2 == 1))
    return out


@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", "u2", "i8", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("how", ["mean", "nearest", "mode"])
def test_downsampling_to_the_bit(dtype, how):
    rng = np.random.default_rng(0)
    kind = np.dtype(dtype)
    for shape, factors in (((5, 7, 9), (2, 2, 2)), ((4, 6, 8), (1, 2, 2)), ((1, 3, 5), (2, 2, 2)), ((7, 6), (3, 4))):
        if kind.kind in "iu":
            info = np.iinfo(kind)
            blocks = [
                rng.integers(info.min, info.max, shape, kind, endpoint=True),
                rng.integers(0, 3, shape).astype(kind),
            ]
            blocks.append(np.full(shape, info.max, kind))  # sums must not wrap
        else:
            blocks = [(rng.random(shape) * 3).astype(kind)]
        for block in blocks:
            got = downsample(block, factors, how)
            assert got.dtype == kind
            np.testing.assert_array_equal(got, reference(block, factors, how))


def test_halves_are_rounded_to_even():
    block = np.array([[0, 1], [1, 2], [2, 3], [-1, 0], [-2, -1]], "i2")
    assert downsample(block, (1, 2)).ravel().tolist() == [0, 2, 2, 0, -2]


def test_a_pyramid_does_not_depend_on_its_blocks():
    block = (np.random.default_rng(0).random((12, 13, 15)) * 100).astype("f4")
    for how, cut in product(("mean", "mode", "nearest"), (2, 4, 6)):
        whole_block = downsample(block, (2, 2, 2), how)
        for i, j, k in product(range(0, 12, cut), range(0, 13, cut), range(0, 15, cut)):
            part = downsample(block[i : i + cut, j : j + cut, k : k + cut], (2, 2, 2), how)
            here = tuple(slice(o // 2, o // 2 + n) for o, n in zip((i, j, k), part.shape))
            np.testing.assert_array_equal(part, whole_block[here])


def test_refused_downsampling():
    with pytest.raises(ParameterError, match="one whole number for each of 2 axes"):
        downsample(np.zeros((2, 2)), (2,))
    with pytest.raises(ParameterError, match="how='median': is none of mean, nearest, mode"):
        downsample(np.zeros((2, 2)), (2, 2), "median")
