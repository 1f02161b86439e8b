"""What attributes.json says of the blocks of an N5 data set, and one block, bytes -> voxels.

A block has a header (mode, axes, lengths; big-endian), then what is packed. It is decoded within the size it declares.
"""

from __future__ import annotations

import bz2
import lzma
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigbia.errors import InputError
from bigbia.io.chunks import Decoder
from bigbia.io.places import brief
from bigbia.io.zarr_layout import MAX_CHUNKS

_TYPES = {*(f"{k}int{n}" for k in ("", "u") for n in (8, 16, 32, 64)), "float32", "float64"}
_PLAIN = {"raw": (), "gzip": ("gzip",), "zstd": ("zstd",), "zstandard": ("zstd",), "blosc": ("blosc",)}
_PACKED = {*_PLAIN, "lz4", "bzip2", "xz"}
_LZ4_MAGIC, _LZ4_HEADER = b"LZ4Block", 21


@dataclass(frozen=True)
class DataSet:
    """What attributes.json says of the blocks of a data set, checked; axes in NumPy's order."""

    shape: tuple[int, ...]
    blocks: tuple[int, ...]
    dtype: np.dtype  # as stored
    packed: str

    @classmethod
    def of(cls, said: Mapping[str, Any], where: str) -> DataSet:
        lists = []
        for key in ("dimensions", "blockSize"):
            value = said.get(key)
            if not isinstance(value, list) or not all(type(n) is int and n >= 0 for n in value):
                raise InputError(f"{where}: {key} {brief(value)} is not a list of lengths: its metadata is damaged")
            lists.append(tuple(reversed(value)))
        shape, blocks = lists
        if len(shape) != len(blocks) or 0 in blocks:
            raise InputError(
                f"{where}: blocks of {brief(blocks)} do not fit shape {brief(shape)}: its metadata is damaged"
            )
        if not isinstance(said.get("dataType"), str) or said["dataType"] not in _TYPES:
            raise InputError(
                f"{where}: its values are {brief(said.get('dataType'), repr)}: bigbia reads integers and floats of up to 64 bit"
            )
        packing = said.get("compression", said.get("compressionType", "raw"))
        packed = packing.get("type") if isinstance(packing, Mapping) else packing
        if not isinstance(packed, str) or packed not in _PACKED:
            raise InputError(
                f"{where}: is packed as {brief(packed, repr)}: bigbia reads {', '.join(sorted(_PACKED - {'zstandard'}))}; write it "
                "again with gzip or zstd"
            )
        if math.prod(-(-n // b) for n, b in zip(shape, blocks)) > MAX_CHUNKS:
            raise InputError(
                f"{where}: shape {shape} in blocks of {blocks} is more than {MAX_CHUNKS:.0e} files: its metadata is wrong, or "
                "it needs larger blocks"
            )
        return cls(shape, blocks, np.dtype(said["dataType"]).newbyteorder(">"), str(packed))


def block(data: bytes, layout: DataSet, expected: tuple[int, ...]) -> np.ndarray:
    """The voxels of a block: a header (mode, axes, lengths), then what is packed. ValueError where it is none."""
    mode, count = struct.unpack_from(">HH", data)
    if mode != 0:
        raise ValueError(f"is of mode {mode}; blocks of voxels (0) are read")
    if count != len(layout.shape):
        raise ValueError(f"has {count} axes, {len(layout.shape)} were expected")
    shape = tuple(reversed(struct.unpack_from(f">{count}I", data, 4)))
    # A block at the border may be cut off there, or whole.
    if any(not e <= n <= b for n, e, b in zip(shape, expected, layout.blocks)):
        raise ValueError(f"is a block of {shape}, {expected} was expected")
    packed = memoryview(data)[4 + 4 * count :]
    if layout.packed in _PLAIN:
        return Decoder(shape, layout.dtype, _PLAIN[layout.packed]).decode(bytes(packed))
    raw = _unpacked(layout.packed, bytes(packed), math.prod(shape) * layout.dtype.itemsize)
    return Decoder(shape, layout.dtype, ()).decode(raw)


def _unpacked(packed: str, data: bytes, size: int) -> bytes:
    """What a block unpacks to, never more than one byte above its size."""
    if packed == "lz4":
        return _lz4(data, size)
    engine: Any = bz2.BZ2Decompressor() if packed == "bzip2" else lzma.LZMADecompressor(memlimit=1 << 28)
    try:
        raw = engine.decompress(data, size + 1)
    except (OSError, lzma.LZMAError) as error:
        raise ValueError(str(error)) from None
    if not engine.eof and len(raw) <= size:
        # All voxels may have come out before the end of the stream was looked at.
        raw += engine.decompress(b"", 1) if not engine.needs_input else b""
    if len(raw) > size:
        raise ValueError(f"decodes to more than the {size} bytes that are declared")
    if not engine.eof:
        raise ValueError("is cut off")
    return raw


def _lz4(data: bytes, size: int) -> bytes:
    """Blocks as Java's LZ4BlockOutputStream writes them: magic, method, lengths, checksum."""
    from numcodecs import LZ4

    out, at = b"", 0
    while at < len(data):
        if data[at : at + 8] != _LZ4_MAGIC or len(data) < at + _LZ4_HEADER:
            raise ValueError("is no LZ4 block stream")
        method, packed, unpacked = data[at + 8] & 0xF0, *struct.unpack_from("<ii", data, at + 9)
        start = at + _LZ4_HEADER
        if packed < 0 or unpacked < 0 or start + packed > len(data):
            raise ValueError("is cut off")
        if unpacked == 0:
            break
        if len(out) + unpacked > size:
            raise ValueError(f"decodes to more than the {size} bytes that are declared")
        piece = data[start : start + packed]
        if method == 0x20:
            try:
                piece = bytes(LZ4().decode(struct.pack("<I", unpacked) + piece))
            except RuntimeError as error:
                raise ValueError(str(error)) from None
        if len(piece) != unpacked:
            raise ValueError(f"holds {len(piece)} bytes, {unpacked} are declared")
        out, at = out + piece, start + packed
    return out
