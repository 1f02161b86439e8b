"""Histograms."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from bigbia.exposure.counting import centred, passes_for, value_dtype
from bigbia.graph.footprints import truth, whole_number
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, is_lazy, lazy
from bigbia.graph.mapped import passed
from bigbia.graph.reduce import Reduce


def histogram(image: Image, nbins: int = 256, *, normalize: bool = False) -> tuple[Any, Any]:
    """How often each value occurs.

    Parameters
    ----------
    image : array of integers or floats, any number of axes
    nbins : int
        Bins between the smallest and the largest value of a floating-point image; integers have one bin a value.
    normalize : bool
        Divide by the number of voxels.

    Returns
    -------
    counts, bin_centers : 1-d
        NumPy arrays for a NumPy image, lazy Dask arrays otherwise. Times and channels are counted together: select
        one with ``isel`` first. How many values an integer image has is known when it is computed: those Dask arrays
        have an unknown length.

    Raises
    ------
    InputError : complex or object voxels, an empty axis
    BlockError : NaN or infinity, naming the block; when it is computed

    Notes
    -----
    Equal to the bit to ``skimage.exposure.histogram(image, nbins)`` for every chunking; counts are int64.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.exposure.histogram(np.array([3, 1, 3], np.uint8))
    (array([1, 0, 2]), array([1, 2, 3]))
    """
    check_image(image, "exposure.histogram", "iuf")
    whole_number(nbins, "nbins", "exposure.histogram", 1)
    normalize = truth(normalize, "normalize", "exposure.histogram")
    finish = functools.partial(_finish, nbins=int(nbins), normalize=normalize)
    passes = passes_for(image.dtype, int(nbins), "histogram")
    if not is_lazy(image):
        found = passed(image, passes, finish)
        return found["counts"], found["centers"]
    from bigbia.graph.dask import as_array, of_unknown_length

    source = lazy(image, "exposure.histogram")
    stage = Reduce("histogram", source.node, source.grid, passes, finish)
    kinds = {"counts": np.dtype(np.float64 if normalize else np.int64), "centers": value_dtype(image.dtype)}
    if image.dtype.kind in "iu":
        return tuple(of_unknown_length(stage, name, kind, source.live) for name, kind in kinds.items())  # type: ignore[return-value]
    return tuple(as_array(stage.output(n, (nbins,), k), ((nbins,),), source.live) for n, k in kinds.items())  # type: ignore[return-value]


def _finish(*results: Mapping[str, np.ndarray], nbins: int, normalize: bool) -> Mapping[str, np.ndarray]:
    def done(counts: np.ndarray, centers: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"counts": counts / np.sum(counts) if normalize else counts, "centers": centers}

    return centred(*results, what="histogram", nbins=nbins, finalise=done)
