"""What the tests of `io` share: small images, files of them, and the check of a source."""

import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from bigbia.errors import BigbiaError, BigbiaWarning, InputError
from bigbia.io.opening import open as open_image

# Real images, with their ground truth, are not in the repository.
DATA = Path(os.environ.get("BIGBIA_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
SHAPE, CHUNKS = (11, 17, 23), (4, 7, 8)


def voxels(shape=SHAPE, dtype="u2"):
    image = np.random.default_rng(0).integers(0, 200, shape)
    image[4:8, ..., 8:16] = 0  # a region of zeros: not stored unless asked for
    return (image / 7).astype(dtype) if np.dtype(dtype).kind == "f" else image.astype(dtype)


def write_zarr(path, data, zarr_format=3, **words):
    words = {"dtype": data.dtype, "chunks": CHUNKS, **words}
    array = zarr.create_array(path, shape=data.shape, zarr_format=zarr_format, **words)
    array[...] = data
    return array


def multiscale(path, transforms, *, axes="zyx", units=("micrometer",) * 3, zarr_format=3, shapes=(SHAPE,), **ome):
    """An OME-Zarr group by hand, as other programs may write it."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    kinds = {"t": "time", "c": "channel"}
    named = [{"name": a, "type": kinds.get(a, "space")} | ({"unit": u} if u else {}) for a, u in zip(axes, units)]
    datasets = [{"path": str(i), "coordinateTransformations": t} for i, t in enumerate(transforms)]
    meta = {"multiscales": [{"axes": named, "datasets": datasets, "version": "0.4"}], **ome}
    group.attrs.update({"ome": {"version": "0.5", **meta}} if zarr_format == 3 else meta)
    for i, shape in enumerate(shapes):
        group.create_array(str(i), shape=shape, chunks=shape, dtype="u2")[...] = voxels(shape)
    return path


def scaled(*values):
    return [{"type": "scale", "scale": list(values)}]


def opened(path, **words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BigbiaWarning)
        return open_image(path, **words)


def boxes(shape, count=12, seed=0):
    """The whole, single voxels, and random regions."""
    rng = np.random.default_rng(seed)
    yield tuple((0, n) for n in shape)
    yield tuple((n - 1, n) for n in shape)
    for _ in range(count):
        starts = [int(rng.integers(0, n)) for n in shape]
        yield tuple((a, int(rng.integers(a + 1, n + 1))) for a, n in zip(starts, shape))


def check_source(source, expected):
    """read(box) is the reference's region, contiguous, native, writable; also after pickling and in threads."""
    assert source.shape == expected.shape
    assert source.dtype == expected.dtype.newbyteorder("=")
    assert len(source.chunks) == len(source.shape)
    assert isinstance(source.token, str)
    again = pickle.loads(pickle.dumps(source))
    assert again.token == source.token

    def check(box, reader=source):
        got = reader.read(box)
        assert got.flags.c_contiguous
        assert got.flags.writeable
        assert got.dtype == source.dtype
        np.testing.assert_array_equal(got, expected[tuple(slice(*b) for b in box)])

    for box in boxes(source.shape):
        check(box)
    check(next(boxes(source.shape)), again)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(check, boxes(source.shape, 24, seed=1)))


def refused(says, path, kind=InputError, **words):
    with pytest.raises(kind, match=says) as caught:
        opened(path, **words)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, BigbiaError)
