"""Split the masks of real label images and compare with these. python watershed_real.py FOLDER

prints a list with one entry an image that is there as JSON: the tables of metrics.matching, split and only labelled, and
whether the labels found in blocks are those found in one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import tifffile
from steps import step
from watershed_split import row

import bigbia

BLOCK = 40
IMAGES = {  # min_distance, smooth: among the best of a few, looked for with the truth at hand
    "cells3d_nuclei/nuclei_label.tif": (12, 2),
    "stardist_3d/mask3d.tif": (3, 1),
    "stardist_dsb2018/mask2d.tif": (5, 1),
}


def main(folder: Path) -> None:
    told = []
    for name, words in IMAGES.items():
        if (folder / name).exists():
            step(name)
            told.append({"name": name, "min_distance": words[0], "smooth": words[1], **split(folder / name, *words)})
    step("exit")
    print(json.dumps(told))


def split(path: Path, min_distance: float, smooth: float) -> dict[str, Any]:
    truth = tifffile.imread(path)
    mask = truth > 0
    found = bigbia.segmentation.split_touching(mask, min_distance, smooth)
    lazy = bigbia.segmentation.split_touching(da.from_array(mask, chunks=BLOCK), min_distance, smooth)
    return {
        "shape": truth.shape,
        "split": row(bigbia.metrics.matching(truth, found)),
        "labelled": row(bigbia.metrics.matching(truth, bigbia.measure.label(mask))),
        "blocks_equal": bool(np.array_equal(lazy.compute(), found)),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
