"""The image of the benchmarks: synthetic nuclei as OME-Zarr. python data.py FOLDER SIZE CHUNK

prints its path and how many nuclei were drawn, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def make(folder: Path, size: int, chunk: int) -> dict[str, object]:
    """Write the image unless it is there (it appears whole, under its final name)."""
    import bigbia
    from bigbia.graph.dask import from_source
    from bigbia.hyperstack import hyperstack
    from bigbia.io.synthetic import Nuclei

    nuclei = Nuclei((size,) * 3)
    path = folder / f"nuclei-{size}-{chunk}-{nuclei.token[-8:]}.zarr"
    made = not path.exists()
    if made:
        folder.mkdir(parents=True, exist_ok=True)
        bigbia.save(path, hyperstack(from_source(nuclei), "zyx"), chunks=chunk, levels=1)
    return {"path": str(path), "made": made, "objects": nuclei.count()}


if __name__ == "__main__":
    print(json.dumps(make(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
