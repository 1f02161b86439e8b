"""Count the tasks of a lazy result. python counting.py CASE BLOCKS [SOURCE] prints them as JSON.

A case is built over BLOCKS blocks an axis of 64 voxels, computed by a formula, or over the image at SOURCE. Tasks are
those of the optimised Dask graph, `len(dask.optimize(array)[0].__dask_graph__())`; nothing is computed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da

BLOCK = 64


def nuclei(blocks: int, source: str) -> Any:
    """The image: an OME-Zarr, or a formula of any size."""
    if source:
        import bigbia

        return bigbia.open(source)
    from bigbia.graph.dask import from_source
    from bigbia.io.synthetic import Nuclei

    return from_source(Nuclei((blocks * BLOCK,) * 3), block=BLOCK)


# ---- bigbia --------------------------------------------------------------------------------------------------------
def gaussian(x: Any) -> Any:
    from bigbia import filters

    return filters.gaussian(x, 2)


def chain(x: Any) -> Any:
    from bigbia import filters

    return filters.sobel(filters.median(filters.gaussian(x, 2))) > 100


def arithmetic(x: Any) -> Any:
    return (gaussian(x) > 300) & (x > 100)


def arithmetic_window(x: Any) -> Any:
    from bigbia import morphology

    return morphology.opening(arithmetic(x))


def label(x: Any) -> Any:
    from bigbia import measure

    return measure.label(gaussian(x) > 300)


def main_job(x: Any) -> Any:
    from bigbia import filters, measure

    smooth = gaussian(x)
    return measure.label(smooth > filters.threshold_otsu(smooth))


# ---- dask-image ----------------------------------------------------------------------------------------------------
def peer_gaussian(x: Any) -> Any:
    from dask_image import ndfilters

    return ndfilters.gaussian_filter(x.astype("f4"), 2, mode="nearest")


def peer_label(x: Any) -> Any:
    import numpy as np
    from dask_image import ndmeasure

    return ndmeasure.label(x > 300, structure=np.ones((3, 3, 3)))[0]


def peer_main_job(x: Any) -> Any:
    return peer_label(peer_gaussian(x))


CASES: dict[str, Callable[[Any], Any]] = {
    f.__name__: f
    for f in (gaussian, chain, arithmetic, arithmetic_window, label, main_job, peer_gaussian, peer_label, peer_main_job)
}


def count(case: str, blocks: int, source: str = "") -> dict[str, Any]:
    """Tasks, blocks, and the seconds to build the graph and to optimise it; imports are not counted."""
    CASES[case](nuclei(2, ""))  # imports, and whatever is made once
    image = nuclei(blocks, source)
    started = time.perf_counter()
    array = CASES[case](image)
    array = array if isinstance(array, da.Array) else array.data
    built = time.perf_counter()
    tasks = len(dask.optimize(array)[0].__dask_graph__())
    return {
        "case": case,
        "blocks": array.npartitions,
        "tasks": tasks,
        "build": built - started,
        "optimise": time.perf_counter() - built,
    }


if __name__ == "__main__":
    print(json.dumps(count(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])))
