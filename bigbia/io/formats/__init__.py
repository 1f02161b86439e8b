"""Foreign formats: HDF5 (Imaris and BigDataViewer among them), N5, CZI, ND2 and LIF.

Each is read with the library that knows the format best, and not through a common one for all of them: what such a
layer hands on has lost which scene, which level and which chunk was meant, and reads whole planes where a tile would do.
A module a format, imported when a file of it is met; a package that is missing ends with the command to type.

    found   what is at a place, None where it is none of these
"""

from __future__ import annotations

from typing import Any

from bigbia.io.formats.base import reading
from bigbia.io.formats.heads import head
from bigbia.io.places import Place

__all__ = ["found"]

_CZI, _LIF = b"ZISRAWFILE", b"\x70\x00\x00\x00"
_ND2 = (b"\xda\xce\xbe\x0a", b"\x00\x00\x00\x0cjP  ")
_OUTWARD = 16  # names behind a file's


def found(place: Place, level: int, scene: str | int | None, on_missing: str | None) -> Any:
    """What is at a place, as a `Found`: picked by a file's first bytes, or by a folder's attributes.json.

    Parameters
    ----------
    place : a file, a folder, or a path within them (`x.h5/volumes/raw`, `x.n5/setup0/s1`)
    level : of the pyramid, where the format has one
    scene : name or number of the image, where there are several
    on_missing : "error" refuses chunks that are absent; "fill" and None read them as the fill value

    Returns
    -------
    Found, or None where none of these formats is there

    Raises
    ------
    InputError : several images and no scene, damaged, or not an image
    ParameterError : a level or a scene that is not there
    MissingExtraError : the format's package is not installed

    >>> found(Place("/no/such/file.czi"), 0, None, None) is None
    True
    """
    kind = place.kind()
    if kind == "file":
        return _file(place, "", level, scene, on_missing)
    if kind == "folder":
        from bigbia.io.formats.n5 import open_n5

        with reading(place, "N5"):
            return open_n5(place, level, scene, on_missing)
    around, inner = place, ""
    for _ in range(_OUTWARD):
        if kind is not None or around.parent is None:
            break
        around, inner = around.parent, f"{around.name}/{inner}".rstrip("/")
        kind = around.kind()
    return _file(around, inner, level, scene, on_missing) if kind == "file" and inner else None


def _file(place: Place, inner: str, level: int, scene: str | int | None, on_missing: str | None) -> Any:
    from bigbia.io.formats.hdf5 import is_hdf5, open_hdf5

    # Whatever a library, or what is made of its answers, stumbles over in a damaged file becomes an error of ours.
    if is_hdf5(place):
        with reading(place, "HDF5"):
            return open_hdf5(place, inner, level, scene, on_missing)
    if inner:
        return None
    start = head(place, 16)
    if start.startswith(_CZI):
        from bigbia.io.formats.czi import open_czi

        with reading(place, "CZI"):
            return open_czi(place, level, scene, on_missing)
    if start.startswith(_ND2):
        from bigbia.io.formats.nd2 import open_nd2

        with reading(place, "ND2"):
            return open_nd2(place, level, scene, on_missing)
    if start.startswith(_LIF) and start[8:9] == b"\x2a":
        from bigbia.io.formats.lif import open_lif

        with reading(place, "LIF"):
            return open_lif(place, level, scene, on_missing)
    return None
