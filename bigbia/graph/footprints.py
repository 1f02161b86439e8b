"""Arguments: what an operator takes as a number, a word, a truth or a footprint, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError, nearest

LONGEST = 2**24  # voxels: of an axis, and of what can lie around a voxel
MOST = 2**27  # voxels of a footprint, which every task holds


def brief(value: Any) -> str:
    """A value in one short line, for messages."""
    if not isinstance(value, type) and hasattr(value, "ndim") and hasattr(value, "shape"):
        plain = isinstance(value, (np.ndarray, np.generic))
        if value.ndim and not (plain and value.size <= 30):
            return f"<{type(value).__name__} of shape {tuple(value.shape)}>"
        if not plain and hasattr(value, "compute"):
            return f"<lazy {type(value).__name__}>"
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # whole numbers of more digits than Python writes
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 200 else f"{text[:150]}...{text[-20:]}"


def check_mode(mode: str, what: str, known: Sequence[str]) -> None:
    one_of(mode, "mode", what, known)


def one_of(value: Any, name: str, what: str, known: Sequence[str]) -> str:
    """An argument that must be one of some words."""
    if isinstance(value, str) and value in known:
        return value
    way = nearest(value, known) if isinstance(value, str) else nearest("", known)
    raise ParameterError(f"{what}: {name}={brief(value)} is not known; {way}")


def truth(value: Any, name: str, what: str) -> bool:
    """An argument that must be True or False; 1 and 0 stand for them."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    raise ParameterError(f"{what}: {name}={brief(value)}: must be True or False")


def real_number(
    value: Any,
    name: str,
    what: str,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    finite: bool = True,
) -> float:
    """An argument that must be a number, within bounds; NaN and infinity only if not `finite`, NaN in no bounds."""
    number = plain_number(value)
    if (
        number is not None
        and (not finite or math.isfinite(number))
        and (least is None or number >= least)
        and (above is None or number > above)
        and (below is None or number < below)
    ):
        return number
    limits = ((least, f"{least} or more"), (above, f"above {above}"), (below, f"below {below}"))
    bounds = [words for limit, words in limits if limit is not None]
    kind = "a finite number" if finite else "a number"
    way = f": compute it first, {name}=float({name}.compute())" if hasattr(value, "compute") else ""
    raise ParameterError(f"{what}: {name}={brief(value)} must be {', '.join([kind, *bounds])}{way}")


def plain_number(value: Any) -> float | None:
    """A real number as a float, one in a NumPy array without axes too; None for anything else."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return None


def one_an_axis(value: Any, image: Any, what: str, name: str, kind: str = "numbers") -> list[Any]:
    """One value for each spatial axis, from one for all of them or a sequence; what they are is not looked at."""
    count = len(hyperstack.spatial_axes(image))
    values = several(value)
    values = [value] * count if values is None else values
    if len(values) != count:
        ways = f"1 or {count}" if count > 1 else "1"
        raise ParameterError(
            f"{what}: {name}={brief(value)}: {len(values)} {kind} for {count} spatial axes: give {ways}"
        )
    return values


def several(value: Any) -> list[Any] | None:
    """The values of a sequence or of an array of one axis; None for anything else."""
    if isinstance(value, np.ndarray):
        return list(value) if value.ndim == 1 else None
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview)):
        return list(value)
    return None


def lengths(value: Any, image: Any, what: str, name: str) -> tuple[float, ...]:
    """`hyperstack.lengths` of what lies around a voxel: no longer than any axis can be."""
    items = several(value)
    if isinstance(value, np.ndarray) and value.ndim < 2:
        value = value.tolist()
    if not all(isinstance(v, str) or plain_number(v) is not None for v in ([value] if items is None else items)):
        raise ParameterError(
            f'{what}: {name}={brief(value)}: is not a length: write a number (voxels), one a spatial axis, or "0.5 um"'
        )
    out = hyperstack.lengths(value, image, name)
    if max(out, default=0) > LONGEST:
        raise ParameterError(
            f"{what}: {name}={brief(value)}: is {max(out):.3g} voxels, more than an axis has: give {LONGEST} at most"
        )
    return out


def footprint_of(footprint: Any, image: Any, what: str, *, full: bool) -> np.ndarray:
    """A mask with one axis for every axis of the image, of length 1 along t and c.

    None: all neighbours, or those that share a face. A number, one number a spatial axis, or a length with a unit: a
    full box of these sides. A flat list of an image of one axis is a mask.
    """
    from scipy import ndimage as ndi

    space = hyperstack.spatial_axes(image)
    ndim = len(space)
    if footprint is None:
        footprint = ndi.generate_binary_structure(ndim, ndim if full else 1)
    elif isinstance(footprint, str) or (ndim > 1 and _are_sides(footprint)):
        return full_box(footprint, image, what, "footprint")
    elif isinstance(footprint, (Integral, np.bool_)) or np.ndim(_array(footprint, what)) == 0:
        if isinstance(footprint, (bool, np.bool_)) or not isinstance(footprint, (int, np.integer)) or footprint < 1:
            raise ParameterError(
                f"{what}: footprint={brief(footprint)} must be a mask or the length of its side, 1 or more"
            )
        return full_box(int(footprint), image, what, "footprint")
    footprint = _array(footprint, what).astype(bool)
    if footprint.ndim != ndim:
        raise ParameterError(
            f"{what}: the footprint has {footprint.ndim} axes {footprint.shape}, the image {ndim} of space: give one an axis"
        )
    if not footprint.any():
        raise ParameterError(f"{what}: the footprint {footprint.shape} is empty: it needs at least one voxel")
    return over_space(footprint, image)


def over_space(array: np.ndarray, image: Any) -> np.ndarray:
    """An array with one axis for each spatial axis of the image, of length 1 along the others."""
    shape = [1] * image.ndim
    for axis, n in zip(hyperstack.spatial_axes(image), array.shape):
        shape[axis] = n
    return array.reshape(shape)


def whole_number(value: Any, name: str, what: str, least: int = 0, most: int | None = None) -> int:
    """An argument that must be a whole number."""
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        bounds = f"{least} or more" + (f", at most {most}" if most is not None else "")
        raise ParameterError(f"{what}: {name}={brief(value)} must be a whole number, {bounds}")
    return int(value)


def parts_of(footprint: Any, image: Any, what: str, *, full: bool) -> list[np.ndarray]:
    """The masks that are applied one after another: one, or those of scikit-image's ((mask, times), ...)."""
    if not _is_sequence(footprint):
        return [footprint_of(footprint, image, what, full=full)]
    out = []
    for mask, times in footprint:
        if not 1 <= times <= LONGEST:
            raise ParameterError(
                f"{what}: a part of the footprint is to be applied {times} times: give 1 or more, at most {LONGEST}"
            )
        out += [footprint_of(_array(mask, what), image, what, full=full)] * int(times)
    return out


def _is_sequence(footprint: Any) -> bool:
    """Whether it is scikit-image's ((mask, times), ...)."""
    if isinstance(footprint, (str, np.ndarray)) or not isinstance(footprint, Sequence) or not footprint:
        return False
    return all(
        isinstance(part, Sequence)
        and len(part) == 2
        and isinstance(part[1], (int, np.integer))
        and isinstance(part[0], (list, tuple, np.ndarray))
        for part in footprint
    )


def _are_sides(footprint: Any) -> bool:
    return isinstance(footprint, (list, tuple)) and all(
        isinstance(n, (int, np.integer)) and not isinstance(n, (bool, np.bool_)) for n in footprint
    )


def _array(footprint: Any, what: str) -> np.ndarray:
    array = array_of(footprint)
    if array is None and isinstance(footprint, (list, tuple)):
        raise ParameterError(
            f"{what}: footprint={brief(footprint)}: the footprint is a list of parts, not one mask: combine them, for "
            "instance skimage.morphology.ball(3)"
        )
    if array is None:
        raise ParameterError(
            f"{what}: footprint={brief(footprint)} must be a mask: an array, or the lengths of its sides"
        )
    return array


def array_of(value: Any) -> np.ndarray | None:
    """Real numbers as a NumPy array; None for what is no array of them, or would have to be computed."""
    array = _as_array(value)
    return array if array is not None and array.dtype.kind in "biuf" else None


def what_it_is(value: Any) -> str:
    """What was given in place of an array of real numbers, in words."""
    array = _as_array(value)
    if array is not None:
        return f"an array of {array.dtype}"
    return "lists of several lengths" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"


def _as_array(value: Any) -> np.ndarray | None:
    if _lazy_within(value) or not (isinstance(value, (list, tuple, Real, np.generic)) or hasattr(value, "__array__")):
        return None
    try:
        return np.asarray(value)
    except (ValueError, TypeError, OverflowError, RuntimeError):
        return None


def _lazy_within(value: Any) -> bool:
    """Whether something in it is read in blocks, and should not be here."""
    if isinstance(value, (list, tuple)):
        return any(_lazy_within(v) for v in value)
    return getattr(value, "chunks", None) is not None


def dtype_of(value: Any) -> np.dtype | None:
    """The dtype that a name, a type or a dtype stands for; None for anything else."""
    if not isinstance(value, (str, type, np.dtype)):
        return None
    try:
        return np.dtype(value)
    except (TypeError, ValueError):
        return None


def full_box(size: Any, image: Any, what: str, name: str = "size") -> np.ndarray:
    """A mask without gaps."""
    box = sides(size, image, what, name)
    if math.prod(box) > MOST:
        raise ParameterError(
            f"{what}: {name}={brief(size)}: a box of {math.prod(box):.3g} voxels around each: give one of {MOST} at most"
        )
    return np.ones(box, bool)


def sides(size: Any, image: Any, what: str, name: str = "size") -> list[int]:
    """The side of a box along each axis of the image in voxels, 1 along t and c.

    One number for all spatial axes or one each, 1 or more; or a length with a unit, which becomes the nearest odd
    number of voxels.
    """
    space = hyperstack.spatial_axes(image)
    out = [1] * image.ndim
    if isinstance(size, str):
        for axis, length in enumerate(lengths(size, image, what, name)):
            if axis in space:
                out[axis] = 2 * max(0, math.floor((length - 1) / 2 + 0.5)) + 1
        return out
    for axis, n in zip(space, one_an_axis(size, image, what, name, "sides")):
        if isinstance(n, (bool, np.bool_)) or not isinstance(n, (int, np.integer)) or not 1 <= n <= LONGEST:
            raise ParameterError(
                f"{what}: {name}={brief(size)} must be whole numbers of voxels, 1 or more, at most {LONGEST}"
            )
        out[axis] = int(n)
    return out


def radius(footprint: np.ndarray, image: Any, times: int = 1) -> list[int]:
    """Halo along each spatial axis of as many passes with the footprint.

    Even sides reach further to one side, which is covered.
    """
    return [times * (footprint.shape[a] // 2) for a in hyperstack.spatial_axes(image)]


def check_constant(cval: Any, image: Any, what: str) -> float:
    """The voxels beyond the image: a number that its dtype can hold, to the nearest."""
    number = real_number(cval, "cval", what, finite=False)
    if number != number and image.dtype.kind != "f":
        raise ParameterError(f"{what}: cval={cval!r}: {image.dtype} voxels hold no NaN: give a number")
    return int(cval) if isinstance(cval, (int, np.integer)) else number


def text(value: Any, name: str, what: str) -> str:
    """An argument that must be text."""
    if not isinstance(value, str):
        raise ParameterError(f'{what}: {name}={brief(value)}: must be text: write it in quotes, "-"')
    return value


def check_reach(halo: Sequence[float], what: str, said: str) -> None:
    """How far a voxel looks: no farther than any axis is long."""
    if max(halo, default=0) > LONGEST:
        raise ParameterError(
            f"{what}: {said}: a voxel depends on those {max(halo):.3g} away, more than an axis has: give {LONGEST} at most"
        )


def check_size(lengths: Sequence[float], what: str, said: str) -> None:
    """The lengths of the axes of a result: what can be cut into blocks and counted."""
    if max(lengths, default=0) > LONGEST or math.prod(map(float, lengths)) > 2.0**62:
        raise ParameterError(
            f"{what}: {said}: makes an image of {' x '.join(f'{float(n):.3g}' for n in lengths)} voxels: give axes of at most "
            f"{LONGEST}, 2^62 voxels in all"
        )
