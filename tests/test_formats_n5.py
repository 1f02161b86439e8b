"""N5: every box equal to what was written, here and by tensorstore; axes, sizes and levels as people write them."""

import bz2
import gzip
import json
import lzma
import os
import pickle
import struct

import dask
import numcodecs
import numpy as np
import pytest
from images import check_source, opened, refused, voxels

from bigbia.errors import InputError, ParameterError
from bigbia.graph.dask import from_source
from bigbia.hyperstack import time_step, unit, voxel_size
from bigbia.io.formats import found
from bigbia.io.places import Place

BLOCKS = (4, 7, 8)


def find(path, level=0, scene=None, on_missing=None):
    return found(Place(path), level, scene, on_missing)


def lz4_blocks(data):
    out = b""
    for at in range(0, len(data), 500):
        piece = data[at : at + 500]
        packed = bytes(numcodecs.LZ4().encode(piece))[4:]
        out += b"LZ4Block" + bytes([0x25]) + struct.pack("<iiI", len(packed), len(piece), 0) + packed
    return out + b"LZ4Block" + bytes([0x15]) + struct.pack("<iiI", 0, 0, 0)


PACK = {
    "raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "lz4": lz4_blocks,
    "zstd": lambda b: bytes(numcodecs.Zstd().encode(b)), "blosc": lambda b: bytes(numcodecs.Blosc().encode(b)),
}  # fmt: skip


def write(path, data, packed="gzip", blocks=BLOCKS, whole=False, attrs=None):
    """A data set by hand. `whole`: blocks at the border are written whole."""
    os.makedirs(path)
    said = {
        "dimensions": list(data.shape[::-1]),
        "blockSize": list(blocks[::-1]),
        "dataType": str(data.dtype.newbyteorder("=")),
        "compression": {"type": packed},
        **(attrs or {}),
    }
    with open(f"{path}/attributes.json", "w") as file:
        json.dump(said, file)
    for index in np.ndindex(*(-(-n // b) for n, b in zip(data.shape, blocks))):
        block = data[tuple(slice(i * b, (i + 1) * b) for i, b in zip(index, blocks))]
        if whole:
            block = np.pad(block, [(0, b - n) for n, b in zip(block.shape, blocks)], constant_values=77)
        name = os.path.join(path, *map(str, index[::-1]))
        os.makedirs(os.path.dirname(name), exist_ok=True)
        head = struct.pack(f">HH{block.ndim}I", 0, block.ndim, *block.shape[::-1])
        with open(name, "wb") as file:
            file.write(head + PACK[packed](block.astype(block.dtype.newbyteorder(">")).tobytes()))
    return path


def container(path, **attrs):
    os.makedirs(path, exist_ok=True)
    with open(f"{path}/attributes.json", "w") as file:
        json.dump({"n5": "2.5.0", **attrs}, file)
    return path


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "i8"])
def test_voxels(tmp_path, packed, dtype):
    data = voxels(dtype=dtype)
    write(tmp_path / "x", data, packed, whole=packed == "gzip")
    got = find(tmp_path / "x")
    assert got.kind == "N5"
    check_source(got.source, data)
    assert got.source.missing_chunks() == (0, 27)
    np.testing.assert_array_equal(from_source(got.source).compute(), data)


@pytest.mark.parametrize("packed", ["raw", "gzip", "bzip2", "xz", "blosc", "zstd"])
def test_what_tensorstore_writes(tmp_path, packed):
    tensorstore = pytest.importorskip("tensorstore")
    data = voxels()
    options = {"cname": "lz4", "clevel": 5, "shuffle": 1} if packed == "blosc" else {}
    made = tensorstore.open(
        {
            "driver": "n5",
            "kvstore": {"driver": "file", "path": f"{tmp_path}/x"},
            "metadata": {
                "dimensions": list(data.shape[::-1]), "blockSize": [8, 7, 4], "dataType": "uint16",
                "compression": {"type": packed, **options},
            },
        },
        create=True,
    ).result()  # fmt: skip
    made.T.write(data).result()
    check_source(find(tmp_path / "x").source, data)


def test_absent_blocks(tmp_path):
    data = voxels()
    write(tmp_path / "x", data)
    os.remove(tmp_path / "x/1/0/2")
    data[8:, :7, 8:16] = 0
    source = find(tmp_path / "x").source
    assert source.missing_chunks() == (1, 27)
    check_source(source, data)
    strict = find(tmp_path / "x", on_missing="error").source
    with pytest.raises(InputError, match=r"block 1/0/2 is missing .*z=8\.\.10, y=0\.\.6, x=8\.\.15.*on_missing"):
        strict.read(((0, 11), (0, 17), (0, 23)))
    assert strict.token != source.token


def test_axes_and_sizes_fastest_first(tmp_path):
    data = voxels((2, 3, 8, 9))
    said = {"axes": ["x", "y", "z", "t"], "resolution": [0.1, 0.2, 0.5, 30], "units": ["um", "um", "um", "s"]}
    write(tmp_path / "x.n5", data, blocks=(1, 2, 4, 4), attrs=said)
    image = opened(tmp_path / "x.n5")
    assert image.dims == ("t", "z", "y", "x")
    assert (voxel_size(image), unit(image)) == ({"z": 0.5, "y": 0.2, "x": 0.1}, "micrometer")
    assert time_step(image) == (30.0, "second")
    np.testing.assert_array_equal(image.values, data)


def test_levels_of_n5_viewer(tmp_path):
    """The resolution is that of the finest level; each level says by how much it is coarser."""
    root, fine = container(tmp_path / "x.n5"), voxels((11, 18, 22))
    size = {"pixelResolution": {"dimensions": [100, 200, 500], "unit": "nm"}}
    for k, data in enumerate((fine, fine[:, ::2, ::2])):
        write(root / f"raw/s{k}", data, attrs={**size, "downsamplingFactors": [2**k, 2**k, 1]})
    for where in (root, root / "raw"):
        got = find(where, level=1)
        check_source(got.source, fine[:, ::2, ::2])
        assert (got.axes, got.sizes, got.unit) == (("z", "y", "x"), {"z": 500, "y": 400, "x": 200}, "nanometer")
        assert got.levels == ((11, 18, 22), (11, 9, 11))
        assert got.shrink == {"z": 1, "y": 2, "x": 2}
        assert got.origin == {"y": 100, "x": 50}
        with pytest.raises(ParameterError, match="level=2: has 2 level"):
            find(where, level=2)
    assert find(root / "raw/s1").sizes == {"z": 500, "y": 400, "x": 200}
    assert find(root).name == "raw"


def test_levels_of_cosem(tmp_path):
    """Every level says its own scale, the slowest axis first."""
    root = container(tmp_path / "x.n5")
    for k in range(2):
        scale = [5.24 * 2**k, 4.0 * 2**k, 4.0 * 2**k]
        place = {"axes": ["z", "y", "x"], "units": ["nm"] * 3, "scale": scale, "translate": [0.0, 2.0 * k, -2.0 * k]}
        flat = {"dimensions": scale[::-1], "unit": "nm"}
        write(root / f"em/s{k}", voxels((8, 8, 8)), attrs={"transform": place, "pixelResolution": flat})
    got = find(root / "em", level=1)
    assert (got.sizes, got.unit, got.origin) == ({"z": 10.48, "y": 8, "x": 8}, "nanometer", {"z": 0, "y": 2, "x": -2})
    write(root / "em2/s0", voxels((8, 8, 8)), attrs={"pixelResolution": {"dimensions": [4, 4, 5.24], "unit": "nm"}})
    write(root / "em2/s1", voxels((4, 4, 4)), attrs={"pixelResolution": {"dimensions": [8, 8, 10.48], "unit": "nm"}})
    assert find(root / "em2", level=1).sizes == {"z": 10.48, "y": 8, "x": 8}


def test_bigdataviewer(tmp_path):
    root, data = container(tmp_path / "x.n5"), voxels((3, 11, 18, 22))
    for s in range(2):
        for t in range(3):
            for k in range(2):
                write(root / f"setup{s}/timepoint{t}/s{k}", data[t][:, :: 2**k, :: 2**k] + s)
        group = {"downsamplingFactors": [[1, 1, 1], [2, 2, 1]], "dataType": "uint16"}
        (root / f"setup{s}/attributes.json").write_text(json.dumps(group))
    refused(r"holds 2 images: setup0 \(11 x 18 x 22\), setup1 .*name one, as in .*x.n5/setup0", root)
    for got in (find(root, scene="setup1", level=1), find(root / "setup1", level=1)):
        check_source(got.source, data[:, :, ::2, ::2] + 1)
        assert got.levels == ((3, 11, 18, 22), (3, 11, 9, 11))
    with pytest.raises(ParameterError, match="did you mean 'setup1'"):
        find(root, scene="setup7")
    os.remove(root / "setup1/timepoint2/s0/attributes.json")
    refused(r"timepoint2 holds no levels s0, s1, \.\.\.: it is not complete", root / "setup1")


def test_axistags_of_ilastik(tmp_path):
    tags = json.dumps({"axes": [{"key": k} for k in "zyx"]})
    write(container(tmp_path / "x.n5") / "exported_data", voxels(), attrs={"axistags": tags})
    assert opened(tmp_path / "x.n5").dims == ("z", "y", "x")


# ---- bad input -------------------------------------------------------------------------------------------------------
def change(path, **attrs):
    said = json.loads((path / "attributes.json").read_text())
    (path / "attributes.json").write_text(json.dumps({**said, **attrs}))


@pytest.mark.parametrize(
    ("attrs", "says"),
    [
        ({"dataType": "object"}, "its values are 'object'"),
        ({"dataType": None}, "its values are None"),
        ({"compression": {"type": "jpeg"}}, "is packed as 'jpeg'"),
        ({"compression": 7}, "is packed as 7"),
        ({"compression": {"type": ["gzip"]}}, "is packed as"),
        ({"dataType": ["uint16"]}, "its values are"),
        ({"blockSize": [8, 7]}, "do not fit shape"),
        ({"blockSize": [8, 7, 0]}, "do not fit shape"),
        ({"blockSize": "8"}, "is not a list of lengths"),
        ({"dimensions": [23, 17, -1]}, "is not a list of lengths"),
        ({"dimensions": [23, 17, 0]}, "is empty"),
        ({"dimensions": [10**9, 17, 11]}, "longer than|files"),
        ({"dimensions": [2] * 6, "blockSize": [2] * 6}, "has 6 axes"),
    ],
)
def test_metadata_that_no_image_has(tmp_path, attrs, says):
    write(tmp_path / "x", voxels())
    change(tmp_path / "x", **attrs)
    refused(says, tmp_path / "x")


def test_what_is_no_n5(tmp_path):
    (tmp_path / "x").mkdir()
    assert find(tmp_path / "x") is None
    (tmp_path / "x/attributes.json").write_text('{"colour": "red"}')
    assert find(tmp_path / "x") is None
    (tmp_path / "x/attributes.json").write_text('{"n5": "2.0')
    refused("attributes.json: is not JSON.*damaged", tmp_path / "x")
    (tmp_path / "x/attributes.json").write_text("[1]")
    refused("a mapping was expected, found list", tmp_path / "x")
    container(tmp_path / "y")
    (tmp_path / "y/empty").mkdir()
    refused("is an N5 group without an image .* it holds empty", tmp_path / "y")


def block(path, data, shape=BLOCKS, mode=0):
    with open(path, "wb") as file:
        file.write(struct.pack(">HH3I", mode, 3, *shape[::-1]) + data)


@pytest.mark.parametrize(
    ("packed", "says"),
    [("gzip", "cut off|decodes to"), ("bzip2", "cut off"), ("xz", "cut off"), ("zstd", ""), ("blosc", "cut off"),
     ("lz4", "cut off|no LZ4|holds"), ("raw", "holds")],
)  # fmt: skip
def test_truncated_blocks(tmp_path, packed, says):
    write(tmp_path / "x", voxels(), packed)
    source = find(tmp_path / "x").source
    path = tmp_path / "x/0/0/0"
    whole = path.read_bytes()
    for keep in (0, 3, 10, 16, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError, match=rf"block 0/0/0: .*({says if keep > 30 else ''}).*damaged, restore"):
            source.read(((0, 11), (0, 17), (0, 23)))


@pytest.mark.parametrize("packed", ["gzip", "bzip2", "xz", "zstd", "blosc", "lz4"])
def test_a_block_that_decodes_to_more_than_it_declares(tmp_path, packed):
    write(tmp_path / "x", voxels(), packed)
    block(tmp_path / "x/0/0/0", PACK[packed](bytes(20 << 20) if packed != "lz4" else bytes(5000)))
    with pytest.raises(InputError, match="block 0/0/0: "):
        find(tmp_path / "x").source.read(((0, 1), (0, 1), (0, 1)))


@pytest.mark.parametrize(
    ("shape", "mode", "says"),
    [((4, 7, 9), 0, r"is a block of \(4, 7, 9\)"), ((4, 7, 7), 0, "expected"), (BLOCKS, 2, "is of mode 2"),
     ((2**31, 2**31, 8), 0, "is a block of")],
)  # fmt: skip
def test_headers_that_do_not_fit(tmp_path, shape, mode, says):
    write(tmp_path / "x", voxels(), "raw")
    block(tmp_path / "x/0/0/0", bytes(4 * 7 * 8 * 2), shape, mode)
    with pytest.raises(InputError, match=says):
        find(tmp_path / "x").source.read(((0, 1), (0, 1), (0, 1)))


def test_links_out_of_the_container(tmp_path):
    root = container(tmp_path / "x.n5")
    write(root / "own", voxels())
    write(tmp_path / "secret", voxels())
    os.symlink(tmp_path / "secret", root / "away")
    with pytest.raises(InputError, match="is a link out of the store"):
        find(root / "away")
    with pytest.raises(InputError, match="is a link out of the store"):
        find(root)
    os.remove(root / "away")
    source = find(root).source
    os.remove(root / "own/0/0/0")
    os.symlink(tmp_path / "secret/0/0/0", root / "own/0/0/0")
    with pytest.raises(InputError, match="is a link out of the store"):
        source.read(((0, 1), (0, 1), (0, 1)))
    with pytest.raises(InputError, match="is a link out of the store"):
        find(root)
    with dask.config.set({"bigbia.follow_links": True}):
        check_source(find(root).source, voxels())


def test_a_link_to_nothing_is_not_absent(tmp_path):
    write(tmp_path / "x", voxels())
    source = find(tmp_path / "x").source
    os.remove(tmp_path / "x/0/0/0")
    os.symlink("nowhere", tmp_path / "x/0/0/0")
    with pytest.raises(InputError, match="it is a link to nothing"):
        source.read(((0, 1), (0, 1), (0, 1)))


def test_metadata_that_change(tmp_path):
    write(tmp_path / "x", voxels())
    text = pickle.dumps(find(tmp_path / "x").source)
    change(tmp_path / "x", dataType="int16")
    with pytest.raises(InputError, match="has changed since it was opened"):
        pickle.loads(text).read(((0, 1), (0, 1), (0, 1)))


def test_remote(tmp_path):
    import fsspec

    write(tmp_path / "x", voxels())
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "x"), "/bucket/x", recursive=True)
    memory.rm("/bucket/x/0/0/0")
    data = voxels()
    data[:4, :7, :8] = 0
    got = find("memory://bucket/x")
    check_source(got.source, data)
    assert got.source.missing_chunks() == (1, 27)
    memory.rm("/bucket", recursive=True)


def test_attributes_of_other_kinds_say_nothing(tmp_path):
    strange = {"axes": 7, "resolution": "fine", "units": {"a": 1}, "transform": [1], "multiscales": {"a": 2},
               "downsamplingFactors": "2", "pixelResolution": {"dimensions": [None, {}, []]}, "axistags": "{"}  # fmt: skip
    root = container(tmp_path / "x.n5")
    for k in range(2):
        write(root / f"raw/s{k}", voxels(), attrs=strange)
    (root / "raw/attributes.json").write_text(json.dumps(strange))
    got = find(root, level=1)
    assert (got.axes, got.sizes) == (None, {})
    check_source(got.source, voxels())
