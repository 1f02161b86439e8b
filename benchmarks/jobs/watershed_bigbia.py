"""Flood an image with bigbia, Zarr to Zarr. python watershed_bigbia.py INPUT OUTPUT CHUNK CONNECTIVITY

prints as JSON how many blocks each round looked at, and the bytes that each stage left in scratch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from label_run import files
from steps import Steps, step

import bigbia
from bigbia.graph.catchments import Catchments
from bigbia.graph.dask import node_of
from bigbia.graph.relax import Relax
from bigbia.graph.stages import Stage, stages_of

ROUNDS = (Relax, Catchments)


def main(source: str, target: str, chunk: int, connectivity: int) -> None:
    step("open")
    image, markers = (bigbia.open(f"{source}/{name}.zarr") for name in ("image", "markers"))
    mask = bigbia.open(f"{source}/mask.zarr") if Path(source, "mask.zarr").exists() else None
    labels = bigbia.segmentation.watershed(image, markers, connectivity, mask=mask)
    stages = stages_of([node_of(labels.data)[0]])
    bigbia.save(target, labels={"objects": labels}, chunks=chunk, levels=1, progress=Steps())
    step("exit")
    print(json.dumps(told(stages) | {"block": labels.data.chunksize, "blocks": labels.data.npartitions}))


def told(stages: Iterable[Stage]) -> dict[str, Any]:
    """Blocks a round of what goes in rounds; bytes in scratch by stage."""
    stages = list(stages)
    rounds = {type(s).__name__: list(s.rounds) for s in stages if isinstance(s, ROUNDS)}
    return {"rounds": rounds, "traffic": traffic(stages)}


def traffic(stages: Iterable[Stage]) -> dict[str, int]:
    out: dict[str, int] = {}
    for stage in stages:
        name = f"{type(stage).__name__} ({stage.kind})"
        out[name] = out.get(name, 0) + sum(size for _, _, size in files(stage.folder.path))
    return out


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
