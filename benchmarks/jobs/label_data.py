"""A mask to label, as OME-Zarr. python label_data.py FOLDER KIND SIZE CHUNK

prints its path, what it is, and the connectivity it is labelled with, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

P = 0.3116  # where a cluster first spans a volume by its faces: components of every size
HALF_MAX = 700  # of nuclei that are 1200 counts bright on a background of 100

KINDS = {
    "percolation": (1, f"voxels set at random with probability {P} (the threshold of percolation), 6 neighbours"),
    "nuclei": (3, f"the synthetic nuclei above {HALF_MAX}, near half their brightness, 26 neighbours"),
}


def make(folder: Path, kind: str, size: int, chunk: int) -> dict[str, Any]:
    """Write the mask unless it is there (it appears whole, under its final name)."""
    import bigbia
    from bigbia.graph.dask import from_source
    from bigbia.hyperstack import hyperstack
    from bigbia.io.synthetic import Nuclei, Percolation

    shape = (size,) * 3
    source = Nuclei(shape) if kind == "nuclei" else Percolation(shape, p=P)
    path = folder / f"mask-{kind}-{size}-{chunk}-{source.token[-8:]}.zarr"
    made = not path.exists()
    if made:
        image = from_source(source)
        mask = image > HALF_MAX if kind == "nuclei" else image
        bigbia.save(path, hyperstack(mask, "zyx"), chunks=chunk, levels=1)
    connectivity, what = KINDS[kind]
    return {"path": str(path), "made": made, "connectivity": connectivity, "what": what}


if __name__ == "__main__":
    print(json.dumps(make(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
