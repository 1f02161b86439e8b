"""Which codecs a Zarr array may name, and how much a chunk may decode to where zarr decodes it.

Metadata may have been written by anyone. Codecs that unpickle, or build objects of any size, are not read; nor is what
nobody can bound: a chunk of a few bytes must not fill the memory. `chunks.py` decodes the common codecs within the
declared size; the others go to zarr, through a store that looks at every chunk first.
"""

from __future__ import annotations

import bz2
import math
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bigbia.errors import InputError
from bigbia.io.chunks import MAX_FRAME, content_size, largest_frame
from bigbia.io.places import brief, check_inside, open_file

COMPRESSORS = ("zstd", "blosc", "gzip", "zlib", "lz4", "bz2")
CHECKSUMS = {"crc32c": "end", "crc32": "start", "adler32": "start", "fletcher32": "end"}  # where the 4 bytes stand
FILTERS = {"bytes", "transpose", "delta", "fixedscaleoffset", "astype", "shuffle", "bitround", "quantize", "packbits"}
RESIZING = {"astype", "fixedscaleoffset", "packbits"}  # filters that store values of another width
ALLOWED = {*COMPRESSORS, *CHECKSUMS, *FILTERS, "sharding_indexed"}


def check_codecs(meta: Mapping[str, Any], where: str) -> None:
    """InputError unless an array's codecs are on the list, in an order in which a chunk's size can be told first."""
    try:
        _check(meta, where)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{where}: its Zarr metadata is not complete ({error!r}): the file is damaged") from None


def _check(meta: Mapping[str, Any], where: str) -> None:
    chain = _names(meta)
    if "sharding_indexed" in chain:
        if chain != ["sharding_indexed"]:
            raise InputError(
                f"{where}: its shards are packed once more ({brief(', '.join(chain))}): write it again without"
            )
        config = meta["codecs"][0]["configuration"]
        index = [_name(codec) for codec in config.get("index_codecs", ())]
        if index not in (["bytes"], ["bytes", "crc32c"]):
            raise InputError(
                f"{where}: the index of its shards is packed ({brief(', '.join(index))}): write it again with zarr"
            )
        chain = [_name(codec) for codec in config["codecs"]]
        if "sharding_indexed" in chain:
            raise InputError(f"{where}: holds shards within shards, which bigbia does not read: write it again")
    for name in chain:
        if name not in ALLOWED:
            raise InputError(
                f"{where}: codec {brief(name, repr)} is refused: bigbia reads {', '.join(sorted(ALLOWED - {'sharding_indexed'}))}; "
                "write it again with zstd"
            )
    packed = [i for i, name in enumerate(chain) if name in COMPRESSORS]
    if len(packed) > 1 or (packed and not set(chain[packed[0] + 1 :]) <= set(CHECKSUMS)):
        raise InputError(
            f"{where}: codecs {brief(', '.join(chain))}: nobody can tell how much they decode to: bigbia reads one compressor, "
            "as the last codec but for checksums; write it again with zstd"
        )


def _names(meta: Mapping[str, Any]) -> list[str]:
    """The codecs in the order in which they pack a chunk."""
    if meta["zarr_format"] == 3:
        return [_name(codec) for codec in meta["codecs"]]
    codecs = [*(meta.get("filters") or []), *([meta["compressor"]] if meta.get("compressor") else [])]
    return [str(codec.get("id")) if isinstance(codec, Mapping) else str(codec) for codec in codecs]


def _name(codec: Any) -> str:
    name = str(codec.get("name") if isinstance(codec, Mapping) else codec)
    plain = name.removeprefix("numcodecs.")
    return plain if plain in ALLOWED else name


class Guard:
    """Looks at the bytes of a chunk before zarr decodes them. `shards`: a file holds an index and inner chunks."""

    def __init__(self, meta: Mapping[str, Any], chunks: Sequence[int], shards: Sequence[int] | None, itemsize: int):
        chain = _names(meta)
        self.sharded, self.at_end = shards is not None, True
        inner = 1
        if shards is not None:
            config = meta["codecs"][0]["configuration"]
            chain = [_name(codec) for codec in config["codecs"]]
            self.at_end = config.get("index_location", "end") == "end"
            inner = math.prod(n // c for n, c in zip(shards, chunks))
            self.index_bytes = 16 * inner + (4 if len(config["index_codecs"]) > 1 else 0)
        exact = not set(chain) & RESIZING
        self.most = math.prod(chunks) * (itemsize if exact else 8) + (0 if exact else 64)
        self.chain = [name for name in reversed(chain) if name in COMPRESSORS or name in CHECKSUMS]
        self.largest = inner * largest_frame(self.most) + (self.index_bytes if self.sharded else 0)

    def check_file(self, data: bytes) -> None:
        """A whole file: a chunk, or a shard with its index."""
        if not self.sharded:
            self.check(data)
            return
        if len(data) < self.index_bytes:
            raise ValueError(f"{len(data)} bytes do not hold the index of a shard, {self.index_bytes} do")
        raw = data[-self.index_bytes :] if self.at_end else data[: self.index_bytes]
        for offset, length in np.frombuffer(raw[: len(raw) // 16 * 16], "<u8").reshape(-1, 2).tolist():
            if offset + length <= len(data):  # zarr says what is wrong with the others
                self.check(data[offset : offset + length])

    def check(self, data: bytes) -> None:
        """ValueError where a chunk would decode to more than it declares."""
        for name in self.chain:
            if name in CHECKSUMS:
                data = data[:-4] if CHECKSUMS[name] == "end" else data[4:]
                continue
            size = unpacked_size(name, data, self.most)
            if size is None or size > self.most:
                raise ValueError(f"decodes to {size or 'more'} bytes, {self.most} are declared")
            return


def unpacked_size(name: str, data: bytes, most: int) -> int | None:
    """How many bytes a compressed chunk decodes to, found without taking more than `most`; None for more."""
    if name in ("blosc", "lz4"):
        return content_size(name, data)
    if name == "zstd":
        # Several frames may follow each other, and need not say how large they are; those must fill `most`.
        from numcodecs import Zstd

        try:
            return len(Zstd().decode(data, out=np.empty(most, "u1"))) if most else 0
        except (RuntimeError, ValueError) as error:
            size = content_size(name, data)
            if size is not None and size > most:
                return size
            raise ValueError(str(error)) from None
    return _inflated(name, data, most)


def _inflated(name: str, data: bytes, most: int) -> int | None:
    """The size of gzip, zlib and bz2 streams, one after the other, decoded in pieces that are dropped."""
    total, piece = 0, 1 << 20
    while data:
        engine: Any = bz2.BZ2Decompressor() if name == "bz2" else zlib.decompressobj(wbits=47)
        while not engine.eof:
            try:
                got = len(engine.decompress(data, piece))
            except (zlib.error, OSError) as error:
                raise ValueError(str(error)) from None
            total += got
            if total > most:
                return None
            data = b"" if name == "bz2" else engine.unconsumed_tail
            if not got and not data and not engine.eof:
                return total  # cut off: zarr says so
        data = engine.unused_data
    return total


def guarded(store: Any, guard: Guard, folder: str | None, root: str | None) -> Any:
    """A zarr store that lets every chunk be looked at first; `folder` where it is local."""
    from zarr.abc.store import RangeByteRequest, SuffixByteRequest
    from zarr.storage import WrapperStore

    class Guarded(WrapperStore):
        def __init__(self, store: Any) -> None:
            super().__init__(store)

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if folder is not None:
                self.check_file(key)
            value = await super().get(key, prototype, byte_range)
            if value is not None and not key.endswith((".json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")):
                index = isinstance(byte_range, SuffixByteRequest) or (
                    isinstance(byte_range, RangeByteRequest)
                    and (byte_range.start, byte_range.end) == (0, guard.sharded and guard.index_bytes)
                )
                if byte_range is None:
                    guard.check_file(value.to_bytes())
                elif not (guard.sharded and index):
                    guard.check(value.to_bytes())
            return value

        def check_file(self, key: str) -> None:
            path = os.path.join(str(folder), key)
            check_inside(root, path)
            try:
                descriptor = open_file(path, None)
            except OSError:
                return  # absent, or zarr says what is wrong
            size = os.fstat(descriptor).st_size
            os.close(descriptor)
            if size > max(guard.largest, MAX_FRAME):
                raise ValueError(f"holds {size} bytes, at most {guard.largest} can be such a chunk")

        async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Any]:
            return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

        # Newer releases of zarr merge the ranges of several chunks, or read without the event loop: not past `get`.
        async def get_ranges(self, key: str, byte_ranges: Sequence[Any], *, prototype: Any, **_: Any) -> Any:
            for i, byte_range in enumerate(byte_ranges):
                value = await self.get(key, prototype, byte_range)
                if value is None:
                    raise ExceptionGroup(key, [FileNotFoundError(key)])
                yield [(i, value)]

        @property
        def _supports_sync_io(self) -> bool:
            return False

        def get_sync(self, key: str, **_: Any) -> Any:
            raise TypeError(f"{key}: is read through get alone")

        async def _get_many(self, requests: Iterable[tuple[str, Any, Any]]) -> Any:
            for key, prototype, byte_range in requests:
                yield key, await self.get(key, prototype, byte_range)

    return Guarded(store)
