"""Files and words made to do harm, one function each, run in a process of little memory (`test_hostile.py`).

A case makes its trap in `here.root` and walks into it as a user would. It must raise the error that its decorator says,
or, where that says nothing, come to the harmless end that its own assertions describe. Nothing may run the payload,
which would leave `here.marker`, nor open a file in `here.outside`.

    python tests/hostile.py GROUP FOLDER      one line of JSON for each case of the group
"""

from __future__ import annotations

import bz2
import contextlib
import json
import os
import pickle
import re
import resource
import signal
import struct
import sys
import threading
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MEMORY = 3 << 30  # address space of the process
GROWTH = 512 << 20  # bytes that one case may take in addition
SECONDS = 20
GROUPS = ("metadata", "chunks", "places", "pipelines", "files")


@dataclass(frozen=True)
class Case:
    name: str
    group: str
    says: str | None  # of the error; None: ends without one
    function: Callable


CASES: dict[str, Case] = {}


def case(group: str, says: str | None = None):
    def add(function: Callable) -> Callable:
        name = function.__name__
        assert name not in CASES
        CASES[name] = Case(name, group, says, function)
        return function

    return add


class Payload:
    """Runs when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.marker}'",)


# ---- what the traps are made of --------------------------------------------------------------------------------------


def array(folder: Path, zarr_format: int = 3, change: dict | None = None, data: Any = None, **words: Any) -> Path:
    """A good array, then some of its metadata changed."""
    import numpy as np
    import zarr

    data = np.arange(512, dtype="u2").reshape(8, 8, 8) if data is None else data
    words = {"chunks": (4, 4, 4), "zarr_format": zarr_format, "dtype": data.dtype, **words}
    zarr.create_array(folder, shape=data.shape, **words)[...] = data
    if change:
        meta = folder / ("zarr.json" if zarr_format == 3 else ".zarray")
        meta.write_text(json.dumps(json.loads(meta.read_text()) | change))
    return folder


def group(folder: Path, datasets: list, **ome: Any) -> Path:
    """An OME-Zarr image whose metadata somebody wrote."""
    folder.mkdir()
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    said = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}], **ome}
    document = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": said}}
    (folder / "zarr.json").write_text(json.dumps(document))
    return folder


def level(path: Any, scale: Any = (1, 1, 1)) -> dict:
    return {"path": path, "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}


def values(path: Path, **words: Any) -> Any:
    """Open and read it all."""
    import bigbia

    return bigbia.open(path, **words).values


def first_chunk(folder: Path) -> Path:
    return next(p for p in (folder / "c/0/0/0", folder / "0.0.0", folder / "0/0/0") if p.exists())


def gzip_bomb(gibibytes: int = 2) -> bytes:
    """A gzip stream of zeros: a block of 16 MiB that ends on a byte, many times."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = engine.compress(bytes(16 << 20)) + engine.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * (64 * gibibytes) + b"\x03\0" + bytes(8)


def zlib_bomb(gibibytes: int = 2) -> bytes:
    return b"\x78\x9c" + gzip_bomb(gibibytes)[10:-8] + bytes(4)


def zstd_bomb(gibibytes: int = 2, *, said: bool = False) -> bytes:
    """A zstd frame of blocks that repeat one byte; `said`: with the size in its header."""
    blocks = gibibytes << 13
    head = b"\x28\xb5\x2f\xfd" + (b"\xc0\x58" + struct.pack("<Q", blocks << 17) if said else b"\x00\x58")
    repeat = ((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    return head + repeat * (blocks - 1) + ((1 << 17) << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"


def bomb(here: Any, data: bytes, zarr_format: int = 3, **words: Any) -> Any:
    path = array(here.root / "b.zarr", zarr_format, **words)
    first_chunk(path).write_bytes(data)
    return values(path)


# ---- metadata --------------------------------------------------------------------------------------------------------
PICKLE = {"id": "pickle", "protocol": 5}


def with_payload(here: Any, change: dict, zarr_format: int = 2) -> Any:
    path = array(here.root / "p.zarr", zarr_format, change)
    for chunk in [*path.glob("*.*.*"), *path.glob("c/*/*/*")]:
        chunk.write_bytes(pickle.dumps(Payload(here.marker)))
    return values(path)


@case("metadata", "its values are object")
def pickled_objects(here):
    with_payload(here, {"dtype": "|O", "filters": [PICKLE], "fill_value": 0})


@case("metadata", "codec 'pickle' is refused: bigbia reads .* zstd")
def a_pickle_filter_over_numbers(here):
    with_payload(here, {"filters": [PICKLE], "compressor": None})


@case("metadata", "codec 'pickle' is refused")
def a_pickle_as_compressor(here):
    assert os.environ["NUMCODECS_ALLOW_UNSAFE_PICKLE_DECODE"] == "1"  # numcodecs itself would run it
    with_payload(here, {"compressor": PICKLE})


@case("metadata", "codec 'numcodecs.pickle' is refused")
def a_pickle_of_zarr_3(here):
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "numcodecs.pickle"}]
    with_payload(here, {"codecs": codecs}, 3)


@case("metadata", "codec 'numcodecs.pickle' is refused")
def a_pickle_within_shards(here):
    path = array(here.root / "p.zarr", shards=(8, 8, 8))
    meta = json.loads((path / "zarr.json").read_text())
    meta["codecs"][0]["configuration"]["codecs"] = [{"name": "numcodecs.pickle", "configuration": {}}]
    (path / "zarr.json").write_text(json.dumps(meta))
    values(path)


@case("metadata", "codec 'json2' is refused")
def objects_as_json(here):
    with_payload(here, {"filters": [{"id": "json2"}], "compressor": None})


@case("metadata", "codec 'msgpack2' is refused")
def objects_as_msgpack(here):
    with_payload(here, {"filters": [{"id": "msgpack2"}], "compressor": None})


@case("metadata", "codec 'vlen-utf8' is refused")
def texts_of_any_length(here):
    with_payload(here, {"filters": [{"id": "vlen-utf8"}], "compressor": None})


@case("metadata", "codec 'vlen-bytes' is refused")
def bytes_of_any_length(here):
    values(array(here.root / "p.zarr", change={"codecs": [{"name": "vlen-bytes"}]}))


@case("metadata", "nobody can tell how much they decode to: bigbia reads one compressor")
def a_compressor_in_a_compressor(here):
    import numcodecs

    array(here.root / "p.zarr", 2, filters=[numcodecs.Zlib()], compressors=[numcodecs.Zstd()])
    values(here.root / "p.zarr")


@case("metadata", "shards within shards")
def shards_within_shards(here):
    path = array(here.root / "p.zarr", shards=(8, 8, 8))
    meta = json.loads((path / "zarr.json").read_text())
    meta["codecs"][0]["configuration"]["codecs"] = json.loads(json.dumps(meta["codecs"]))
    (path / "zarr.json").write_text(json.dumps(meta))
    values(path)


@case("metadata", "is longer than 16777216 voxels")
def a_shape_of_two_to_the_sixty(here):
    values(array(here.root / "p.zarr", change={"shape": [2**60, 8, 8]}))


@case("metadata", r"1e\+12 files, at most 1e\+09 are opened")
def a_million_million_chunks(here):
    grid = {"name": "regular", "configuration": {"chunk_shape": [1, 1, 1]}}
    values(array(here.root / "p.zarr", change={"shape": [10**4] * 3, "chunk_grid": grid}))


@case("metadata", r"chunks, at most 1e\+07 are opened")
def a_million_million_chunks_in_a_shard(here):
    path = array(here.root / "p.zarr", shards=(8, 8, 8))
    meta = json.loads((path / "zarr.json").read_text())
    meta["shape"] = meta["chunk_grid"]["configuration"]["chunk_shape"] = [10**4] * 3
    meta["codecs"][0]["configuration"]["chunk_shape"] = [1, 1, 1]
    (path / "zarr.json").write_text(json.dumps(meta))
    values(path)


@case("metadata", "EiB, at most 1 EiB is opened")
def more_bytes_than_there_are_disks(here):
    grid = {"name": "regular", "configuration": {"chunk_shape": [2**11] * 3}}
    values(array(here.root / "p.zarr", change={"shape": [2**20, 2**22, 2**20], "chunk_grid": grid}))


@case("metadata", "GiB, at most 16 GiB are opened")
def one_chunk_of_all(here):
    grid = {"name": "regular", "configuration": {"chunk_shape": [2**13] * 3}}
    values(array(here.root / "p.zarr", change={"shape": [2**13] * 3, "chunk_grid": grid}))


@case("metadata", "8 GiB and is read as a whole, .* may be used: give more memory")
def a_chunk_larger_than_the_memory(here):
    grid = {"name": "regular", "configuration": {"chunk_shape": [2**10, 2**11, 2**11]}}
    values(array(here.root / "p.zarr", change={"shape": [2**10, 2**11, 2**11], "chunk_grid": grid}))


@case("metadata", r"chunks \[0, 4, 4\] do not fit")
def a_chunk_of_nothing(here):
    values(array(here.root / "p.zarr", 2, {"chunks": [0, 4, 4]}))


@case("metadata", r"shape \[8, -8, 8\] is not a list of lengths")
def a_negative_shape(here):
    values(array(here.root / "p.zarr", change={"shape": [8, -8, 8]}))


@case("metadata", "has 70 axes")
def seventy_axes(here):
    values(array(here.root / "p.zarr", change={"shape": [1] * 70}))


@case("metadata", "has 100000 axes")
def a_message_that_ends(here):
    values(array(here.root / "p.zarr", change={"shape": [2] * 100_000}))


@case("metadata", "dimension separator '/../../outside/secret.zarr/' is not")
def a_separator_that_walks_out(here):
    values(array(here.root / "p.zarr", 2, {"dimension_separator": "/../../outside/secret.zarr/"}))


@case("metadata", "dimension separator .* is not")
def a_separator_of_zarr_3_that_walks_out(here):
    change = {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/../../outside/"}}}
    values(array(here.root / "p.zarr", change=change))


@case("metadata", "zarr.json: is larger than 64 MiB")
def a_document_of_a_hundred_megabytes(here):
    path = array(here.root / "p.zarr")
    (path / "zarr.json").write_bytes(b'{"zarr_format": 3, "a": "' + b"x" * (100 << 20) + b'"}')
    values(path)


@case("metadata", "zarr.json: is not JSON")
def a_document_of_a_million_brackets(here):
    path = array(here.root / "p.zarr")
    (path / "zarr.json").write_bytes(b'{"a": ' + b"[" * 10**6)
    values(path)


@case("metadata")
def a_scale_of_four_hundred_digits(here):
    path = group(here.root / "p.zarr", [level("0", (10**400, 1, 1))])
    array(path / "0")
    assert values(path).sum() == 512 * 511 // 2
    import bigbia

    assert bigbia.hyperstack.voxel_size(bigbia.open(path)) is None


# ---- chunks ----------------------------------------------------------------------------------------------------------
DECLARED = "decodes to .* bytes, 128 are declared|holds .* bytes"


def _gzip() -> Any:
    from zarr.codecs import GzipCodec

    return GzipCodec()


@case("chunks", DECLARED)
def a_gzip_bomb(here):
    bomb(here, gzip_bomb(), compressors=[_gzip()])


@case("chunks", DECLARED)
def a_gzip_bomb_within_the_size_of_a_chunk(here):
    data = gzip_bomb()
    assert len(data) > 1 << 20
    bomb(here, data[: 1 << 19], compressors=[_gzip()])


@case("chunks", DECLARED)
def a_gzip_bomb_that_zarr_would_read(here):
    import numcodecs

    bomb(here, gzip_bomb(), 2, compressors=[numcodecs.GZip()], order="F")


@case("chunks", DECLARED)
def many_gzip_streams_that_zarr_would_read(here):
    import numcodecs

    one = zlib.compressobj(9, zlib.DEFLATED, 31)
    stream = one.compress(bytes(1 << 25)) + one.flush()
    bomb(here, stream * 16, 2, compressors=[numcodecs.GZip()], order="F")


@case("chunks", DECLARED)
def a_zlib_bomb(here):
    import numcodecs

    bomb(here, zlib_bomb(), 2, compressors=[numcodecs.Zlib()])


@case("chunks", DECLARED)
def a_bz2_bomb_that_zarr_would_read(here):
    import numcodecs

    bomb(here, bz2.compress(bytes(1 << 24)) * 128, 2, compressors=[numcodecs.BZ2()])


@case("chunks", DECLARED)
def a_zstd_bomb(here):
    bomb(here, zstd_bomb(said=True))


@case("chunks", "cannot be decoded: Zstd decompression error")
def a_zstd_bomb_that_does_not_say_its_size(here):
    bomb(here, zstd_bomb())


@case("chunks", "cannot be decoded")
def a_zstd_bomb_behind_a_good_frame(here):
    from numcodecs import Zstd

    bomb(here, Zstd().encode(bytes(128)) + zstd_bomb())


@case("chunks", "cannot be decoded: Zstd decompression error")
def a_zstd_bomb_that_zarr_would_read(here):
    from zarr.codecs import TransposeCodec

    bomb(here, zstd_bomb(), filters=[TransposeCodec(order=(2, 0, 1))])


@case("chunks", "cannot be decoded: .*too small|cannot be decoded: Zstd")
def a_second_zstd_frame_that_zarr_would_read(here):
    from numcodecs import Zstd
    from zarr.codecs import TransposeCodec

    bomb(here, Zstd().encode(bytes(128)) + zstd_bomb(), filters=[TransposeCodec(order=(2, 0, 1))])


@case("chunks", DECLARED)
def a_blosc_bomb(here):
    import numcodecs

    data = bytearray(numcodecs.Blosc().encode(bytes(128)))
    data[4:8] = struct.pack("<I", 2**31 - 1)
    bomb(here, bytes(data), 2, compressors=[numcodecs.Blosc()])


@case("chunks", DECLARED)
def a_blosc_bomb_that_zarr_would_read(here):
    import numcodecs

    data = bytearray(numcodecs.Blosc().encode(bytes(128)))
    data[4:8] = struct.pack("<I", 2**31 - 1)
    bomb(here, bytes(data), 2, compressors=[numcodecs.Blosc()], order="F")


@case("chunks", DECLARED)
def an_lz4_bomb(here):
    import numcodecs

    data = struct.pack("<I", 2**31 - 1) + numcodecs.LZ4().encode(bytes(128))[4:]
    bomb(here, data, 2, compressors=[numcodecs.LZ4()])


@case("chunks", DECLARED)
def a_bomb_behind_a_filter(here):
    import numcodecs

    bomb(here, zstd_bomb(said=True), 2, compressors=[numcodecs.Zstd()], filters=[numcodecs.Delta(dtype="<u2")])


def shard(here: Any, change: Callable[[bytearray, Any], Any], **words: Any) -> Any:
    """A good shard of 2 x 2 x 2 chunks, its table of (offset, length) changed."""
    import google_crc32c
    import numpy as np

    path = array(here.root / "s.zarr", shards=(8, 8, 8), **words)
    data = bytearray((path / "c/0/0/0").read_bytes())
    table = np.frombuffer(bytes(data[-132:-4]), "<u8").reshape(8, 2).copy()
    body = change(data[:-132], table)
    raw = table.tobytes()
    (path / "c/0/0/0").write_bytes(bytes(body) + raw + struct.pack("<I", google_crc32c.value(raw)))
    return values(path)


@case("chunks", "its index points to byte .* of")
def a_shard_that_points_behind_its_end(here):
    def change(body, table):
        table[3] = 10**6, 100
        return body

    shard(here, change)


@case("chunks", "its index points to byte .* of")
def a_shard_whose_offsets_wrap_round(here):
    def change(body, table):
        table[3] = 2**64 - 64, 128
        return body

    shard(here, change)


@case("chunks")
def a_shard_whose_chunks_lie_over_each_other(here):
    import numpy as np

    def change(body, table):
        table[:] = table[0]
        return body

    found = shard(here, change)  # what it says is what is read: the same chunk eight times
    good = np.arange(512, dtype="u2").reshape(8, 8, 8)[:4, :4, :4]
    assert (found == np.tile(good, (2, 2, 2))).all()


@case("chunks", "cannot be decoded")
def a_bomb_in_a_shard(here):
    def change(body, table):
        data = zstd_bomb()
        table[0] = len(body), len(data)
        return body + data

    shard(here, change)


@case("chunks", "cannot be decoded: Zstd decompression error")
def a_bomb_in_a_shard_that_zarr_would_read(here):
    from zarr.codecs import TransposeCodec

    def change(body, table):
        data = zstd_bomb()
        table[0] = len(body), len(data)
        return body + data

    shard(here, change, filters=[TransposeCodec(order=(2, 0, 1))])


@case("chunks", "cannot be decoded: .*Zstd decompression error|cannot be decoded: .*128 are declared")
def a_bomb_in_a_part_of_a_shard_that_zarr_would_read(here):
    from zarr.codecs import TransposeCodec

    from bigbia.io.places import Place
    from bigbia.io.zarr_source import ZarrSource, find_node

    def change(body, table):
        data = zstd_bomb()
        table[0] = len(body), len(data)
        return body + data

    with contextlib.suppress(ValueError):
        shard(here, change, filters=[TransposeCodec(order=(2, 0, 1))])
    source = ZarrSource(find_node(Place(here.root / "s.zarr")))
    assert source.read(((4, 8), (0, 4), (0, 4))).sum() > 0  # a good one beside it
    source.read(((0, 4), (0, 4), (0, 8)))


@case("chunks", "do not hold the index of a shard, .* do")
def a_shard_smaller_than_its_index(here):
    path = array(here.root / "s.zarr", shards=(8, 8, 8))
    (path / "c/0/0/0").write_bytes(b"x")
    values(path)


@case("chunks", "holds 1099511627776 bytes")
def a_chunk_file_of_a_tebibyte(here):
    path = array(here.root / "p.zarr")
    with first_chunk(path).open("r+b") as file:
        file.truncate(1 << 40)
    values(path)


@case("chunks", "holds 1099511627776 bytes")
def a_chunk_file_of_a_tebibyte_that_zarr_would_read(here):
    import numcodecs

    path = array(here.root / "p.zarr", 2, compressors=[numcodecs.Zstd()], order="F")
    with first_chunk(path).open("r+b") as file:
        file.truncate(1 << 40)
    values(path)


@case("chunks", "c/0/0/0 cannot be read: is a device or a pipe")
def a_chunk_that_is_a_pipe(here):
    path = array(here.root / "p.zarr")
    first_chunk(path).unlink()
    os.mkfifo(path / "c/0/0/0")
    values(path)


@case("chunks", "c/0/0/0 cannot be read: Is a directory")
def a_chunk_that_is_a_folder(here):
    path = array(here.root / "p.zarr")
    first_chunk(path).unlink()
    (path / "c/0/0/0").mkdir()
    values(path)


# ---- places ----------------------------------------------------------------------------------------------------------
LEAVES = "leaves the store: refused"
LINK = r"is a link out of the store, to .*outside.*: refused; if you trust it, set bigbia.follow_links"


@case("places", LEAVES)
def a_level_above_the_store(here):
    values(group(here.root / "p.zarr", [level("../../outside/secret.zarr")]))


@case("places", LEAVES)
def a_level_with_the_whole_path(here):
    values(group(here.root / "p.zarr", [level(str(here.outside / "secret.zarr"))]))


@case("places", LEAVES)
def a_level_with_a_scheme(here):
    values(group(here.root / "p.zarr", [level(f"file://{here.outside}/secret.zarr")]))


@case("places", LEAVES)
def a_level_at_home(here):
    values(group(here.root / "p.zarr", [level("~/secret.zarr")]))


@case("places", LEAVES)
def a_level_for_another_system(here):
    values(group(here.root / "p.zarr", [level("..\\..\\outside\\secret.zarr")]))


@case("places", "a dataset's path is '.*: the metadata are damaged")
def a_level_with_the_commands_of_a_terminal(here):
    values(group(here.root / "p.zarr", [level("0\x1b[2J\n0")]))


@case("places", LEAVES)
def a_label_outside_the_store(here):
    from bigbia.io.opening import describe

    path = group(here.root / "p.zarr", [level("0")])
    array(path / "0")
    (path / "labels").mkdir()
    attributes = {"ome": {"version": "0.5", "labels": ["../../../outside/secret.zarr"]}}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (path / "labels/zarr.json").write_text(json.dumps(document))
    describe(path)


@case("places", LEAVES)
def a_plate_that_says_open_that_one(here):
    path = group(here.root / "p.zarr", [], plate={"wells": [{"path": "../../outside/secret.zarr"}]})
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace('"multiscales"', '"other"'))
    values(path)


@case("places", LINK)
def a_chunk_linked_out(here):
    path = array(here.root / "p.zarr")
    first_chunk(path).unlink()
    (path / "c/0/0/0").symlink_to(here.outside / "secret.zarr/c/0/0/0")
    values(path)


@case("places", LINK)
def a_chunk_linked_out_after_the_store_was_opened(here):
    import bigbia

    path = array(here.root / "p.zarr")
    image = bigbia.open(path)
    first_chunk(path).unlink()
    (path / "c/0/0/0").symlink_to(here.outside / "secret.zarr/c/0/0/0")
    image.compute()


@case("places", LINK)
def a_chunk_linked_out_that_zarr_would_read(here):
    path = array(here.root / "p.zarr", 2, order="F")
    first_chunk(path).unlink()
    (path / "0.0.0").symlink_to(here.outside / "secret.zarr/c/0/0/0")
    values(path)


@case("places", LINK)
def chunks_in_a_linked_folder(here):
    path = array(here.root / "p.zarr")
    (path / "c/0").rename(path / "gone")
    (path / "c/0").symlink_to(here.outside / "secret.zarr/c/0")
    values(path)


@case("places", LINK)
def an_array_linked_out(here):
    path = group(here.root / "p.zarr", [level("0")])
    (path / "0").symlink_to(here.outside / "secret.zarr")
    values(path)


@case("places", LINK)
def a_linked_array_named_by_the_user(here):
    path = group(here.root / "p.zarr", [level("0")])
    (path / "0").symlink_to(here.outside / "secret.zarr")
    values(path / "0")


@case("places", LINK)
def a_linked_label(here):
    path = group(here.root / "p.zarr", [level("0")])
    (path / "labels").mkdir()
    (path / "labels/cells").symlink_to(here.outside / "secret.zarr")
    values(path / "labels/cells")


@case("places", LINK)
def a_linked_document(here):
    path = array(here.root / "p.zarr")
    (path / "zarr.json").unlink()
    (path / "zarr.json").symlink_to(here.outside / "secret.zarr/zarr.json")
    values(path)


@case("places", LINK)
def linked_tables(here):
    from bigbia.io.opening import describe

    path = group(here.root / "p.zarr", [level("0")])
    array(path / "0")
    (path / "tables").symlink_to(here.outside)
    describe(path)


@case("places", "is a link to a folder within an array: refused")
def folders_that_stand_for_a_billion(here):
    path = array(here.root / "p.zarr")
    for i in range(30):
        (path / f"d{i}").mkdir()
    for i in range(29):
        for name in "ab":
            (path / f"d{i}" / name).symlink_to(path / f"d{i + 1}")
    values(path)


@case("places", "leads back to a folder around it")
def a_folder_within_itself_where_links_are_followed(here):
    import dask

    path = array(here.root / "p.zarr")
    (path / "c/again").symlink_to(path / "c")
    with dask.config.set({"bigbia.follow_links": True}):
        values(path)


@case("places", "no name for a folder")
def a_label_saved_above_its_folder(here):
    import numpy as np

    import bigbia

    bigbia.save(here.root / "o.zarr", labels={"../../outside/evil": np.ones((4, 4), "u1")})


@case("places", "no name for a folder")
def a_table_saved_above_its_folder(here):
    import pandas

    import bigbia

    bigbia.save(here.root / "o.zarr", tables={"../../outside/evil": pandas.DataFrame({"label": [1]})})


@case("places", "a zip file: unpack it")
def a_zip_that_walks_out(here):
    import zipfile

    with zipfile.ZipFile(here.root / "x.zarr.zip", "w") as file:
        file.writestr("../../outside/evil", "x")
        file.writestr("zarr.json", "{}")
    values(here.root / "x.zarr.zip")


@case("places")
def a_name_for_a_shell(here):
    path = array(here.root / f"$(touch {here.marker.name}); `touch x` & 'a\" b.zarr".replace("/", ""))
    assert values(path).sum() == 512 * 511 // 2


@case("places", r"a\\nbigbia: error: all is well\\x1b\[2J.zarr: there is nothing")
def a_name_of_several_lines(here):
    values(here.root / "a\nbigbia: error: all is well\x1b[2J.zarr")


@case("places", "cannot hold the character NUL")
def a_name_with_a_nul(here):
    values(str(here.root / "a\0b.zarr"))


@case("places")
def html_as_a_channel(here):
    import bigbia

    path = group(
        here.root / "p.zarr", [level("0")], omero={"channels": [{"label": "<script>alert(1)</script>\x1b[2J"}]}
    )
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace('"name": "z", "type": "space"', '"name": "c", "type": "channel"'))
    array(path / "0", data=__import__("numpy").ones((1, 4, 4), "u1"), chunks=(1, 4, 4))
    image = bigbia.open(path)
    assert image.c.item() == r"<script>alert(1)</script>\x1b[2J"
    assert "<script>alert" not in image._repr_html_()


# ---- pipelines -------------------------------------------------------------------------------------------------------
def pipeline(step: str, save: str = "labels: {a: a}") -> Any:
    """A pipeline of one step, read and applied to an image."""
    import numpy as np

    from bigbia.run.pipeline import Pipeline

    plan = Pipeline.parse(f"bigbia: 1\nsteps:\n  a: {step}\nsave: {{{save}}}\n", "p.yaml")
    return plan.build(np.ones((4, 4), "u2"))


@case("pipelines", "tags are not allowed")
def yaml_that_calls(here):
    pipeline(f"!!python/object/apply:os.system ['touch {here.marker}']")


@case("pipelines", "tags are not allowed")
def yaml_that_calls_under_another_name(here):
    from bigbia.run.pipeline import Pipeline

    Pipeline.parse(f"%TAG ! tag:yaml.org,2002:python/\n---\na: !object/apply:os.system ['touch {here.marker}']")


@case("pipelines", "anchors and aliases")
def a_billion_laughs(here):
    from bigbia.run.pipeline import Pipeline

    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    Pipeline.parse("\n".join(lines))


@case("pipelines", "anchors and aliases")
def a_list_that_holds_itself(here):
    pipeline("&x [*x]")


@case("pipelines", "stands here twice")
def a_key_that_comes_again(here):
    pipeline("{op: filters.gaussian, image: input, sigma: 1, sigma: 2}")


@case("pipelines", "more than 50 levels")
def a_hundred_thousand_brackets(here):
    pipeline("[" * 100_000)


@case("pipelines", "but must be .*")
def words_that_yaml_reads_otherwise(here):
    pipeline("{op: filters.gaussian, image: input, sigma: 1, truncate: 12:30}")


@case("pipelines", "has 900002 digits: write at most 200")
def a_number_of_a_million_digits(here):
    pipeline("{op: filters.gaussian, image: input, sigma: 0x" + "f" * 900_000 + "}")


@case("pipelines", "larger than 1 MiB")
def a_pipeline_of_two_mebibytes(here):
    from bigbia.run.pipeline import Pipeline

    (here.root / "p.yaml").write_text("bigbia: 1\nsteps: {a: input}\n" + "# x\n" * (1 << 19))
    Pipeline.load(here.root / "p.yaml")


@case("pipelines", "is a device or a pipe")
def a_pipeline_without_an_end(here):
    from bigbia.run.pipeline import Pipeline

    Pipeline.load("/dev/zero")


@case("pipelines", "unknown operator 'os.system'")
def an_operator_of_another_module(here):
    pipeline(f"{{op: os.system, command: 'touch {here.marker}'}}")


@case("pipelines", "unknown operator 'builtins.__import__'")
def an_operator_that_imports(here):
    pipeline("{op: builtins.__import__, name: os}")


@case("pipelines", "unknown operator")
def an_operator_from_within(here):
    pipeline("{op: filters.gaussian.__globals__, image: input}")


@case("pipelines", "functions cannot be called here")
def an_expression_that_calls(here):
    pipeline(f"__import__('os').system('touch {here.marker}')")


@case("pipelines", "attributes .* are not part of an expression")
def an_expression_that_reaches_through(here):
    pipeline("input.__class__.__base__ > 1")


@case("pipelines", "is refused: allowed are names of steps")
def an_expression_that_is_a_format(here):
    pipeline("\"f'{input.__class__}' > 1\"")


@case("pipelines", "a power must be a number")
def a_tower_of_powers(here):
    pipeline("9 ** 9 ** 9 ** 9 > input")


@case("pipelines", "too many nested parts|is not an expression")
def an_expression_of_brackets(here):
    pipeline("'" + "-" * 990 + "input'")


def set_on_the_command_line(here: Any, *settings: str) -> None:
    """`bigbia run` with --set; its one line of error is raised again here."""
    from click.testing import CliRunner

    from bigbia import errors
    from bigbia.cli import main

    text = (
        "bigbia: 1\nsteps:\n  s: {op: filters.gaussian, image: input, sigma: 1}\n  a: s > 1\nsave: {labels: {a: a}}\n"
    )
    (here.root / "p.yaml").write_text(text)
    array(here.root / "i.zarr")
    words = [word for setting in settings for word in ("--set", setting)]
    output = here.root / "o.zarr"
    found = CliRunner().invoke(
        main, ["run", str(here.root / "p.yaml"), str(here.root / "i.zarr"), "-o", str(output), *words]
    )
    assert found.exit_code in (2, 3), (found.output, found.exception)
    assert not output.exists()
    assert "Traceback" not in found.output
    raise errors.ParameterError(found.output.strip())


@case("pipelines", "functions cannot be called here")
def a_setting_that_calls(here):
    set_on_the_command_line(here, f"a=__import__('os').system('touch {here.marker}')")


@case("pipelines", "unknown operator 'os.system'")
def a_setting_that_changes_the_operator(here):
    set_on_the_command_line(here, "s.op=os.system")


@case("pipelines", "tags are not allowed")
def a_setting_with_a_tag(here):
    set_on_the_command_line(here, f"s.sigma=!!python/object/apply:os.system ['touch {here.marker}']")


@case("pipelines", "there is no step '__class__'")
def a_setting_of_what_is_no_step(here):
    set_on_the_command_line(here, "__class__.__init__=1")


@case("pipelines", "cannot be a file name here")
def a_saved_name_that_walks_out(here):
    pipeline("input > 1", 'labels: {"../../outside/evil": a}')


# ---- other files -----------------------------------------------------------------------------------------------------
def tiff(folder: Path, shape: tuple[int, ...] = (2, 16, 16), **words: Any) -> Path:
    import numpy as np
    import tifffile

    tifffile.imwrite(folder / "x.tif", np.ones(shape, "u2"), **{"photometric": "minisblack", **words})
    return folder / "x.tif"


def set_tag(path: Path, code: int, value: int, page: int = 0) -> None:
    """Writes another number (of up to 4 bytes) into a tag."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[page].tags[code]
        offset, kind = tag.offset, tag.dtype
    data = bytearray(path.read_bytes())
    data[offset + 2 : offset + 12] = struct.pack("<HII", 4, 1, value) if kind != 16 else data[offset + 2 : offset + 12]
    path.write_bytes(data)


@case("files", r"is cut off: its \(1048576, 1048576\) voxels need 2199023255\d+ bytes, the file has")
def a_tiff_that_declares_a_tebibyte(here):
    path = tiff(here.root, (16, 16), metadata=None)
    set_tag(path, 256, 2**20)
    set_tag(path, 257, 2**20)
    values(path)


@case("files", "is longer than 16777216 voxels")
def a_tiff_that_declares_all_there_is(here):
    path = tiff(here.root, (16, 16), metadata=None)
    set_tag(path, 256, 2**32 - 1)
    set_tag(path, 257, 2**32 - 1)
    values(path)


@case("files", "cut off or damaged: its list of pages has an invalid circular reference")
def a_tiff_whose_pages_go_in_a_circle(here):
    path = tiff(here.root, (3, 16, 16), metadata=None)
    data = bytearray(path.read_bytes())
    first = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[first : first + 2])[0]
    data[first + 2 + 12 * count : first + 6 + 12 * count] = struct.pack("<I", first)
    path.write_bytes(data)
    values(path)


@case(
    "files",
    "a strip or tile of .* bytes decodes to more than the 2097152 that are declared|cannot be decoded: .*INSUFFICIENT_SPACE",
)
def a_tiff_strip_that_is_a_bomb(here):
    path = tiff(here.root, (1024, 1024), compression="zlib", rowsperstrip=1024, metadata=None)
    data = zlib_bomb()
    where = path.stat().st_size
    with path.open("ab") as file:
        file.write(data)
    set_tag(path, 273, where)
    set_tag(path, 279, len(data))
    values(path)


def ome_tiff(here: Any, name: str, front: str = "") -> Path:
    """An OME-TIFF whose second plane lies in another file."""
    pixels = (
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="16" SizeY="16" SizeZ="2" SizeC="1" SizeT="1">'
        '<TiffData FirstZ="0" IFD="0" PlaneCount="1"><UUID FileName="x.tif">urn:uuid:1</UUID></TiffData>'
        f'<TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:2</UUID></TiffData></Pixels>'
    )
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>{front}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="urn:uuid:1"><Image ID="Image:0">{pixels}</Image></OME>'
    )
    return tiff(here.root, (16, 16), description=text, metadata=None)


@case("files", r"names the file '\.\./outside/secret.tif', which may lie outside its folder")
def an_ome_tiff_that_names_a_file_above(here):
    values(ome_tiff(here, "../outside/secret.tif"))


@case("files", "names the file .*secret.tif', which may lie outside its folder")
def an_ome_tiff_that_names_a_whole_path(here):
    values(ome_tiff(here, str(here.outside / "secret.tif")))


@case("files", "may lie outside its folder")
def an_ome_tiff_that_hides_the_slash(here):
    values(ome_tiff(here, "..&#x2F;outside&#47;secret.tif"))


@case("files", "a link out of its folder")
def an_ome_tiff_that_names_a_link(here):
    (here.root / "y.tif").symlink_to(here.outside / "secret.tif")
    values(ome_tiff(here, "y.tif"))


@case("files", "declares entities")
def an_ome_tiff_of_a_billion_laughs(here):
    laughs = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghij", "bcdefghijk")
    )
    values(ome_tiff(here, "&k;", laughs + "]>"))


@case("files", "is not an image: a file that begins with")
def a_pickle_that_calls_itself_an_image(here):
    (here.root / "x.tif").write_bytes(pickle.dumps(Payload(here.marker)))
    values(here.root / "x.tif")


@case("files", "a NumPy file")
def objects_in_a_numpy_file(here):
    import numpy as np

    np.save(here.root / "x.npy", np.array([Payload(here.marker)], object), allow_pickle=True)
    values(here.root / "x.npy")


@case("files", "a device or a pipe")
def an_image_that_never_ends(here):
    values("/dev/zero")


@case("files", "a device or a pipe")
def an_image_that_is_a_pipe(here):
    os.mkfifo(here.root / "x.tif")
    values(here.root / "x.tif")


@case("files")
def a_table_with_a_pickled_type(here):
    import pyarrow as pa
    from pyarrow import parquet

    from bigbia.io.tables import read_table

    kind = {b"ARROW:extension:name": b"arrow.py_extension_type"}
    kind[b"ARROW:extension:metadata"] = pickle.dumps(Payload(here.marker))
    schema = pa.schema([pa.field("label", pa.int64(), metadata=kind)])
    parquet.write_table(pa.table([pa.array([1, 2])], schema=schema), here.root / "t.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert list(read_table(here.root / "t.parquet")["label"]) == [1, 2]  # the numbers, not the type


@case("files", "cannot be read as a table")
def a_table_that_is_a_pickle(here):
    from bigbia.io.tables import read_table

    (here.root / "t.parquet").write_bytes(pickle.dumps(Payload(here.marker)))
    read_table(here.root / "t.parquet")


# ---- in the process --------------------------------------------------------------------------------------------------
def peak() -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) << 10  # type: ignore


def forget_peak() -> int:
    """The resident memory now, from which the next peak is counted."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


class Late(Exception):
    """A case that takes too long."""


def run_case(one: Case, folder: Path, marker: Path, outside: Path) -> dict[str, Any]:
    import dask

    here = SimpleNamespace(root=folder / one.name, marker=marker, outside=outside)
    here.root.mkdir()
    found: dict[str, Any] = {"case": one.name, "error": None, "message": "", "named": True, "trace": ""}
    del opened[:]
    watched.set()
    before, start = forget_peak(), time.perf_counter()
    signal.alarm(SECONDS)
    try:
        with dask.config.set(
            {"bigbia.memory": "1 GiB", "bigbia.threads": 2, "bigbia.scratch": str(folder / "scratch")}
        ):
            one.function(here)
    except BaseException as error:
        from bigbia.errors import BigbiaError

        named = isinstance(error, BigbiaError)
        found |= {"error": type(error).__name__, "message": str(error), "named": named, "trace": traceback.format_exc()}
    finally:
        signal.alarm(0)
        watched.clear()
    return found | {"seconds": time.perf_counter() - start, "growth": peak() - before, "opened": list(opened)}


opened: list[str] = []  # what a case opened in the folder outside, and programs it started
watched = threading.Event()


def watch(outside: Path) -> None:
    def hook(event: str, arguments: tuple) -> None:
        if not watched.is_set():
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            if (arguments[2] or 0) & os.O_NOFOLLOW and os.path.islink(arguments[0]):
                return  # which does not open it
            name = os.fsdecode(arguments[0])
            if os.path.realpath(name).startswith(str(outside)):
                opened.append(name)
        elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn"):
            opened.append(f"{event} {arguments}")

    sys.addaudithook(hook)


def main(name: str, folder: Path) -> None:
    import numpy as np
    import tifffile

    def late(*_: Any) -> None:
        raise Late

    signal.signal(signal.SIGALRM, late)
    outside, marker = folder / "outside", folder / "marker"
    outside.mkdir()
    array(outside / "secret.zarr", data=np.full((8, 8, 8), 777, "u2"))
    tifffile.imwrite(outside / "secret.tif", np.full((16, 16), 777, "u2"))
    before = stamps(outside)
    (folder / "root").mkdir()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    watch(outside)
    warnings.simplefilter("ignore")
    for one in CASES.values():
        if one.group == name:
            found = run_case(one, folder / "root", marker, outside)
            print(json.dumps(found | {"marker": marker.exists(), "outside": stamps(outside) == before}), flush=True)


def stamps(folder: Path) -> list[Any]:
    return [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
