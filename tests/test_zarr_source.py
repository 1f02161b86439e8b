"""Zarr arrays as sources: equal to zarr's own reading, whatever the codec; damaged and absent chunks; identity."""

import json
import os
import pickle
import shutil

import dask
import google_crc32c
import numpy as np
import pytest
import tifffile
import zarr
from images import CHUNKS, SHAPE, check_source, multiscale, opened, scaled, voxels, write_zarr
from numcodecs import BZ2, LZ4, AsType, Blosc, Delta, FixedScaleOffset, GZip, Shuffle, Zlib, Zstd
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from bigbia.errors import InputError, ParameterError
from bigbia.io.opening import describe
from bigbia.io.places import Place
from bigbia.io.zarr_source import ZarrSource, find_node

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")

V2 = {
    "plain": {},
    "dots": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "slashes": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "raw": {"compressors": None},
    "blosc": {"compressors": Blosc(cname="lz4", shuffle=Blosc.BITSHUFFLE)},
    "zstd": {"compressors": Zstd(level=3)},
    "gzip": {"compressors": GZip(1)},
    "zlib": {"compressors": Zlib(1)},
    "lz4": {"compressors": LZ4()},
    "order F": {"order": "F"},
    "filter": {"filters": [Delta(dtype="<u2")]},
    "big endian": {"dtype": ">u2"},
}
V3 = {
    "plain": {},
    "raw": {"compressors": None},
    "crc32c": {"compressors": [Crc32cCodec()]},
    "zstd and crc32c": {"compressors": [ZstdCodec(level=1), Crc32cCodec()]},
    "gzip": {"compressors": [GzipCodec(level=1)]},
    "blosc": {"compressors": [BloscCodec(cname="zstd", typesize=2)]},
    "big endian": {"serializer": BytesCodec(endian="big")},
    "transposed": {"filters": [TransposeCodec(order=(2, 0, 1))]},
    "v2 keys": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "dots": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "shards": {"shards": (8, 14, 16)},
    "shards, raw": {"shards": (8, 14, 16), "compressors": None},
    "shards, index first": {"shards": {"shape": (8, 14, 16), "index_location": "start"}},
    "shards, transposed": {"shards": (8, 14, 16), "filters": [TransposeCodec(order=(2, 0, 1))]},
}
KINDS = [(2, name, words) for name, words in V2.items()] + [(3, name, words) for name, words in V3.items()]


@pytest.mark.parametrize(("zarr_format", "name", "words"), KINDS, ids=[f"v{v} {name}" for v, name, _ in KINDS])
@pytest.mark.parametrize("empty", [True, False], ids=["zeros stored", "zeros absent"])
def test_zarr_kinds(tmp_path, zarr_format, name, words, empty):
    write_zarr(tmp_path / "x.zarr", voxels(), zarr_format, config={"write_empty_chunks": empty}, fill_value=0, **words)
    source = ZarrSource(find_node(Place(tmp_path / "x.zarr")))
    check_source(source, zarr.open_array(tmp_path / "x.zarr", mode="r")[:])
    absent, total = source.missing_chunks()
    assert total == (8 if "shards" in words else 27)
    assert absent == (0 if empty or "shards" in words else 3)


def test_common_codecs_are_read_without_zarr(tmp_path):
    """The fast path is taken where it should be; else this suite would test zarr against itself."""
    slow = {"order F", "filter", "transposed", "shards, transposed"}
    for version, name, words in KINDS:
        path = tmp_path / f"{version} {name}.zarr"
        write_zarr(path, voxels(), version, **words)
        assert (ZarrSource(find_node(Place(path)))._decoder is None) == (name in slow), name


@pytest.mark.parametrize("dtype", ["bool", "i1", "u1", "i2", "u4", "i8", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_dtypes(tmp_path, dtype, zarr_format):
    write_zarr(tmp_path / "x.zarr", voxels(dtype=dtype), zarr_format)
    check_source(ZarrSource(find_node(Place(tmp_path / "x.zarr"))), voxels(dtype=dtype))


@pytest.mark.parametrize("fill", [7, 0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_absent_chunks_are_the_fill_value(tmp_path, fill, zarr_format):
    dtype = "f4" if np.isnan(fill) or np.isinf(fill) else "u2"
    zarr.create_array(
        tmp_path / "x.zarr", shape=SHAPE, chunks=CHUNKS, dtype=dtype, fill_value=fill, zarr_format=zarr_format
    )
    source = ZarrSource(find_node(Place(tmp_path / "x.zarr")))
    check_source(source, np.full(SHAPE, fill, dtype))
    assert source.missing_chunks() == (27, 27)


def test_units_that_are_cheap_to_read(tmp_path):
    small = write_zarr(tmp_path / "s.zarr", voxels(), shards=(8, 14, 16))
    assert ZarrSource(find_node(Place(tmp_path / "s.zarr"))).chunks == small.shards
    zarr.create_array(tmp_path / "l.zarr", shape=(1024,) * 3, chunks=(64,) * 3, shards=(512,) * 3, dtype="u2")
    assert ZarrSource(find_node(Place(tmp_path / "l.zarr"))).chunks == (64, 64, 64)


def test_strict_about_missing_chunks(tmp_path):
    write_zarr(tmp_path / "x.zarr", voxels() + 1)
    os.remove(tmp_path / "x.zarr/c/1/2/0")
    image = opened(tmp_path / "x.zarr", on_missing="error", block=CHUNKS)
    np.testing.assert_array_equal(image[:4].values, voxels()[:4] + 1)
    with pytest.raises(
        InputError, match=r"chunk c/1/2/0 is missing \(4 x 3 x 8 voxels at z=4..7, y=14..16, x=0..7\): restore"
    ):
        image.values  # noqa: B018
    expected = voxels() + 1
    expected[4:8, 14:, :8] = 0
    np.testing.assert_array_equal(opened(tmp_path / "x.zarr").values, expected)
    assert describe(tmp_path / "x.zarr")["missing_chunks"] == {"absent": 1, "total": 27}


DAMAGE = {
    "flipped": lambda raw: raw[:-6] + bytes([raw[-6] ^ 255]) + raw[-5:],
    "cut": lambda raw: raw[:-9],
    "emptied": lambda raw: b"",
    "zeroed": lambda raw: bytes(len(raw)),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["zstd and crc32c", "gzip", "transposed", "shards"])
def test_damaged_chunks_are_named(tmp_path, name, damage):
    words = V3[name] | ({"compressors": [ZstdCodec(), Crc32cCodec()]} if name in ("transposed", "shards") else {})
    write_zarr(tmp_path / "x.zarr", voxels() + 1, **words)
    chunk = tmp_path / ("x.zarr/c/1/1/0" if "shards" in words else "x.zarr/c/2/1/0")
    chunk.write_bytes(DAMAGE[damage](chunk.read_bytes()))
    with pytest.raises(InputError, match=r"chunk c/[12]/1/0 \(z=8..10, y=.*cannot be decoded: .*the file is damaged"):
        opened(tmp_path / "x.zarr").values  # noqa: B018


def test_a_chunk_that_would_decode_to_more_than_it_says(tmp_path):
    write_zarr(tmp_path / "x.zarr", voxels(), compressors=[ZstdCodec()])
    write_zarr(tmp_path / "g.zarr", voxels(), compressors=[GzipCodec()])
    (tmp_path / "x.zarr/c/0/0/0").write_bytes(Zstd().encode(np.zeros(1 << 24, "u1")))
    (tmp_path / "g.zarr/c/0/0/0").write_bytes(GZip().encode(np.zeros(1 << 24, "u1")))
    with pytest.raises(InputError, match="decodes to 16777216 bytes, 448 are declared"):
        opened(tmp_path / "x.zarr").values  # noqa: B018
    with pytest.raises(InputError, match="decodes to more bytes, 448 are declared"):
        opened(tmp_path / "g.zarr").values  # noqa: B018


def test_a_link_to_nothing_is_not_an_absent_chunk(tmp_path):
    write_zarr(tmp_path / "x.zarr", voxels())
    os.remove(tmp_path / "x.zarr/c/0/0/0")
    os.symlink(tmp_path / "not fetched", tmp_path / "x.zarr/c/0/0/0")
    with pytest.raises(InputError, match="it is a link to nothing"):
        opened(tmp_path / "x.zarr").values  # noqa: B018


def token(path, **words):
    return ZarrSource(find_node(Place(path)), **words).token


def test_tokens(tmp_path):
    write_zarr(tmp_path / "x.zarr", voxels())
    first = token(tmp_path / "x.zarr")
    assert token(tmp_path / "x.zarr") == first
    shutil.copytree(tmp_path / "x.zarr", tmp_path / "y.zarr")  # times of files are kept: another path is another store
    assert token(tmp_path / "y.zarr") != first
    assert token(tmp_path / "x.zarr", on_missing="error") != first
    zarr.open_array(tmp_path / "x.zarr", mode="r+")[0, 0, 0] = 999
    second = token(tmp_path / "x.zarr")
    assert second != first
    zarr.open_array(tmp_path / "x.zarr", mode="r+").attrs["note"] = 1
    third = token(tmp_path / "x.zarr")
    assert third not in (first, second)
    os.remove(tmp_path / "x.zarr/c/0/0/0")
    assert token(tmp_path / "x.zarr") not in (first, second, third)


def test_a_manifest_stands_for_the_times_until_something_is_newer(tmp_path):
    store = multiscale(tmp_path / "x.zarr", [scaled(1, 1, 1)])
    (store / "_bigbia").mkdir()
    (store / "_bigbia/manifest.json").write_text('{"blocks": "abc"}')
    first = token(store / "0")
    shutil.copytree(store, tmp_path / "y.zarr")
    assert token(tmp_path / "y.zarr/0") == first  # the same content, wherever it lies
    (tmp_path / "y.zarr/_bigbia/manifest.json").write_text('{"blocks": "abd"}')
    assert token(tmp_path / "y.zarr/0") != first
    chunk = store / "0/c/0/0/0"
    later = os.stat(store / "_bigbia/manifest.json").st_mtime_ns + 10**9
    os.utime(chunk, ns=(later, later))
    assert token(store / "0") != first


def test_a_lazy_image_opened_again_sees_the_new_voxels(tmp_path):
    write_zarr(tmp_path / "x.zarr", voxels())
    old = opened(tmp_path / "x.zarr").sum().compute()
    zarr.open_array(tmp_path / "x.zarr", mode="r+")[...] = voxels() + 1
    assert int(opened(tmp_path / "x.zarr").sum().compute()) == int(old) + voxels().size
    tifffile.imwrite(tmp_path / "x.tif", voxels())
    before = opened(tmp_path / "x.tif")
    assert int(before.sum()) == voxels().sum()
    tifffile.imwrite(tmp_path / "x.tif", voxels() + 1)
    os.utime(tmp_path / "x.tif", ns=(10**18, 10**18))
    assert int(opened(tmp_path / "x.tif").sum()) == voxels().sum() + voxels().size
    with pytest.raises(InputError, match="has changed since it was opened: open it again"):
        pickle.loads(pickle.dumps(before)).values  # noqa: B018


def written(path, **words):
    """A store as bigbia leaves it: an image, labels, and the manifest of the run."""
    store = multiscale(path, [scaled(1, 1, 1)])
    for folder in (store / "0", store / "labels/cells/0"):
        shutil.rmtree(folder, ignore_errors=True)
        write_zarr(folder, voxels() + 1, config={"write_empty_chunks": True}, **words)
    (store / "_bigbia").mkdir()
    (store / "_bigbia/manifest.json").write_text('{"blocks": "abc"}')
    return store


@pytest.mark.parametrize("inside", ["0", "labels/cells/0"])
def test_in_what_bigbia_wrote_every_chunk_is_there(tmp_path, inside):
    store = written(tmp_path / "x.zarr")
    source = ZarrSource(find_node(Place(store / inside)))
    assert source.on_missing == "error"
    assert pickle.loads(pickle.dumps(source)).on_missing == "error"
    check_source(source, voxels() + 1)
    assert (
        token(store / inside) == token(store / inside, on_missing="error") != token(store / inside, on_missing="fill")
    )
    os.remove(store / inside / "c/1/2/0")
    with pytest.raises(InputError, match=r"chunk c/1/2/0 is missing \(4 x 3 x 8 voxels at .*: restore it, or pass"):
        opened(store / inside).values  # noqa: B018
    filled = opened(store / inside, on_missing="fill").values
    assert (filled[4:8, 14:, :8] == 0).all()
    assert (filled > 0).sum() == filled.size - filled[4:8, 14:, :8].size
    assert source.missing_chunks() == (1, 27)


def test_the_image_bigbia_wrote_is_strict_too(tmp_path):
    store = written(tmp_path / "x.zarr")
    os.remove(store / "0/c/0/0/0")
    with pytest.raises(InputError, match="chunk c/0/0/0 is missing"):
        opened(store).values  # noqa: B018
    shutil.rmtree(store / "_bigbia")
    assert opened(store).values[0, 0, 0] == 0
    with pytest.raises(InputError, match="chunk c/0/0/0 is missing"):
        opened(store, on_missing="error").values  # noqa: B018


@pytest.mark.parametrize("place", ["end", "start"])
def test_a_chunk_that_our_shard_does_not_hold(tmp_path, place):
    shards = {"shape": (8, 14, 16), "index_location": place}
    store = written(tmp_path / "x.zarr", shards=shards)
    check_source(ZarrSource(find_node(Place(store / "0"))), voxels() + 1)  # also where a shard reaches over the edge
    file = store / "0/c/1/0/1"
    data = bytearray(file.read_bytes())
    start = len(data) - 132 if place == "end" else 0
    data[start + 16 * 2 : start + 16 * 3] = b"\xff" * 16  # the third of its 2 x 2 x 2 chunks
    data[start + 128 : start + 132] = google_crc32c.value(bytes(data[start : start + 128])).to_bytes(4, "little")
    file.write_bytes(data)
    message = r"a chunk of the shard c/1/0/1 is missing \(3 x 7 x 7 voxels at z=8..10, y=7..13, x=16..22\): restore it"
    with pytest.raises(InputError, match=message):
        opened(store / "0").values  # noqa: B018
    expected = voxels() + 1
    expected[8:11, 7:14, 16:23] = 0
    np.testing.assert_array_equal(opened(store / "0", on_missing="fill").values, expected)
    (store / "_bigbia/manifest.json").unlink()
    # In a foreign shard a chunk that is not held is a chunk of fill values, and says so in no other way.
    np.testing.assert_array_equal(opened(store / "0").values, expected)
    np.testing.assert_array_equal(opened(store / "0", on_missing="error").values, expected)


def test_rarer_codecs_are_read_as_zarr_reads_them(tmp_path):
    """What the guard lets through comes out right; what it must take apart first, too."""
    data = voxels()
    kinds = {
        "bz2": {"compressors": BZ2(1)},
        "delta and zstd": {"filters": [Delta(dtype="<u2")], "compressors": Zstd(1)},
        "wider": {"filters": [AsType(encode_dtype="<i8", decode_dtype="<u2")], "compressors": GZip(1)},
        "fixed": {"filters": [FixedScaleOffset(offset=0, scale=1, dtype="<u2", astype="<u4")], "compressors": Zlib(1)},
        "shuffle": {"filters": [Shuffle(2)], "compressors": LZ4()},
        "checked": {"filters": [Delta(dtype="<u2")], "compressors": Blosc()},
        "order F": {"order": "F", "compressors": BZ2(1)},
    }
    for name, words in kinds.items():
        write_zarr(tmp_path / f"{name}.zarr", data, 2, **words)
        source = ZarrSource(find_node(Place(tmp_path / f"{name}.zarr")))
        assert source._decoder is None
        check_source(source, data)
    for name, compressors in (("crc", [ZstdCodec(), Crc32cCodec()]), ("gzip", [GzipCodec()]), ("raw", None)):
        filters = [TransposeCodec(order=(1, 0, 2))]
        for shards in (None, (8, 14, 16)):
            path = tmp_path / f"{name} {shards}.zarr"
            write_zarr(path, data, filters=filters, compressors=compressors, shards=shards)
            source = ZarrSource(find_node(Place(path)))
            check_source(source, data)
            np.testing.assert_array_equal(source.read(((1, 3), (2, 9), (0, 20))), data[1:3, 2:9, :20])


def test_links_within_a_store_are_followed_and_others_if_asked(tmp_path):
    write_zarr(tmp_path / "x.zarr", voxels())
    shutil.copy(tmp_path / "x.zarr/c/0/0/0", tmp_path / "annex")
    os.remove(tmp_path / "x.zarr/c/0/0/0")
    os.symlink("../../../../annex", tmp_path / "x.zarr/c/0/0/0")
    assert os.path.exists(tmp_path / "x.zarr/c/0/0/0")
    message = (
        r"c/0/0/0: is a link out of the store, to .*/annex: refused; if you trust it, set bigbia.follow_links to true"
    )
    with pytest.raises(InputError, match=message):
        opened(tmp_path / "x.zarr")
    with dask.config.set({"bigbia.follow_links": True}):
        image = opened(tmp_path / "x.zarr")
    np.testing.assert_array_equal(image.values, voxels())  # decided when it is opened, for whoever reads
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)).values, voxels())
    os.rename(tmp_path / "annex", tmp_path / "x.zarr/annex")
    os.remove(tmp_path / "x.zarr/c/0/0/0")
    os.symlink("../../../annex", tmp_path / "x.zarr/c/0/0/0")
    np.testing.assert_array_equal(opened(tmp_path / "x.zarr").values, voxels())


def test_a_store_behind_a_link_is_a_store(tmp_path):
    store = multiscale(tmp_path / "far/x.zarr", [scaled(1, 1, 1)])
    os.symlink(tmp_path / "far", tmp_path / "near")
    os.symlink(store, tmp_path / "y.zarr")
    for path in (tmp_path / "near/x.zarr", tmp_path / "y.zarr", tmp_path / "y.zarr/0"):
        np.testing.assert_array_equal(opened(path).values, voxels())


def test_the_setting_is_a_truth(tmp_path, monkeypatch):
    write_zarr(tmp_path / "x.zarr", voxels())
    monkeypatch.setenv("BIGBIA_FOLLOW_LINKS", "perhaps")
    with pytest.raises(ParameterError, match=r"bigbia\.follow_links='perhaps': must be true or false"):
        opened(tmp_path / "x.zarr")
    monkeypatch.setenv("BIGBIA_FOLLOW_LINKS", "TRUE")
    assert Place(tmp_path / "x.zarr").root is None
    monkeypatch.setenv("BIGBIA_FOLLOW_LINKS", "0")
    assert Place(tmp_path / "x.zarr").root == os.path.realpath(tmp_path / "x.zarr")


def test_a_shard_that_is_not_whole_chunks(tmp_path):
    write_zarr(tmp_path / "x.zarr", voxels(), shards=(8, 14, 16))
    meta = json.loads((tmp_path / "x.zarr/zarr.json").read_text())
    meta["chunk_grid"]["configuration"]["chunk_shape"][0] = 9
    (tmp_path / "x.zarr/zarr.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match=r"shards \(9, 14, 16\) are not whole chunks of \(4, 7, 8\)"):
        opened(tmp_path / "x.zarr")


def test_a_blosc_frame_that_was_cut_off_is_refused():
    from numcodecs import Blosc

    from bigbia.io.chunks import Decoder

    voxels = np.random.default_rng(0).integers(0, 60000, (16, 16, 16)).astype("u2")
    data = Blosc("zstd", 1).encode(voxels)
    decoder = Decoder(voxels.shape, voxels.dtype, ("blosc",))
    assert (decoder.decode(data) == voxels).all()
    for length in (17, len(data) // 2, len(data) - 1):
        with pytest.raises(ValueError, match=f"holds {length} bytes of {len(data)}: is cut off"):
            decoder.decode(data[:length])
