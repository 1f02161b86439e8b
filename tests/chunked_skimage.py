"""A pytest plugin: scikit-image's own tests, with its functions replaced by ours on arrays cut into small blocks.

    python -m pytest -p chunked_skimage --import-mode=importlib --chunk 2 FOLDER/test_ccomp.py FOLDER/test_label.py

with `tests/` on PYTHONPATH. The files are not part of this repository: wheels of scikit-image up to 0.25 hold them, under
`skimage/measure/tests` and the like. `tests/test_skimage_own_tests.py` runs them where they are.
"""

from __future__ import annotations

import warnings
from typing import Any

import dask.array as da
import numpy as np


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--chunk", type=int, default=2, help="voxels along each axis of a block")


def pytest_configure(config: Any) -> None:
    import skimage.filters
    import skimage.measure
    import skimage.measure._ccomp
    import skimage.measure._label
    import skimage.morphology
    import skimage.morphology.gray
    import skimage.restoration._rolling_ball
    import skimage.segmentation
    import skimage.segmentation._watershed

    import bigbia

    size = config.getoption("--chunk")

    def cut(given: Any) -> Any:
        image = isinstance(given, np.ndarray) and any(n != 3 for n in given.shape)  # or a footprint
        return da.from_array(given, chunks=size) if image else given

    def chunked(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*map(cut, args), **{k: cut(v) for k, v in kwargs.items()})
            if isinstance(result, tuple):
                return tuple(r.compute(scheduler="sync") for r in result)
            return result.compute(scheduler="sync")

        return call

    def filtered(function: Any) -> Any:
        """The same of one image, whose other arguments are footprints and numbers."""

        def call(image: Any, *args: Any, **kwargs: Any) -> Any:
            lazy = da.from_array(np.asarray(image), chunks=size)
            return function(lazy, *args, **kwargs).compute(scheduler="sync")

        return call

    for name in ("erosion", "dilation", "opening", "closing", "white_tophat", "black_tophat"):
        ours = filtered(getattr(bigbia.morphology, name))
        setattr(skimage.morphology, name, ours)
        setattr(skimage.morphology.gray, name, ours)
    skimage.restoration._rolling_ball.rolling_ball = filtered(bigbia.restoration.rolling_ball)
    for name in ("sobel", "prewitt", "scharr", "laplace", "sato", "meijering", "frangi"):
        setattr(skimage.filters, name, filtered(getattr(bigbia.filters, name)))

    warnings.simplefilter("ignore")
    label = chunked(bigbia.measure.label)
    skimage.measure.label = skimage.measure._label.label = skimage.measure._label._label_bool = label
    skimage.measure._ccomp.label_cython = label
    for name in ("clear_border", "find_boundaries", "join_segmentations", "watershed"):
        setattr(skimage.segmentation, name, chunked(getattr(bigbia.segmentation, name)))
    skimage.segmentation._watershed.watershed = skimage.segmentation.watershed
