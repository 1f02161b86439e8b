"""bigbia's watershed against scikit-image's, on small images. python watershed_agreement.py SIZE CONNECTIVITY REPEATS

prints a list with one entry an image as JSON: the share of flooded voxels with the same label, for both that of their own
labels of the image turned around, and seconds (wall and CPU) of both, who take turns on one thread, warm.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from label_clock import Clock
from skimage.segmentation import watershed as skimage_watershed
from steps import step
from watershed_fields import Field, fields

from bigbia.segmentation import watershed as bigbia_watershed

PEERS = {"bigbia": bigbia_watershed, "skimage": skimage_watershed}


def main(size: int, connectivity: int, repeats: int) -> None:
    step("images")
    images = fields(size)
    told = []
    for name, field in images.items():
        step(name)
        told.append({"name": name, **compared(field, connectivity, repeats)})
    step("exit")
    print(json.dumps(told))


def compared(field: Field, connectivity: int, repeats: int) -> dict[str, Any]:
    labels = {peer: flooded(function, field, connectivity) for peer, function in PEERS.items()}  # also the warm-up
    whole = labels["skimage"]
    inside = whole > 0
    turned = {peer: np.flip(flooded(function, around(field), connectivity)) for peer, function in PEERS.items()}
    clocks: dict[str, list[dict[str, float]]] = {peer: [] for peer in PEERS}
    for _ in range(repeats):
        for peer, function in PEERS.items():
            with Clock() as clock:
                flooded(function, field, connectivity)
            clocks[peer].append(clock.told)
    return {
        "voxels": whole.size,
        "flooded": int(inside.sum()),
        "same_extent": bool(((labels["bigbia"] > 0) == inside).all()),
        "agreement": float((labels["bigbia"] == whole)[inside].mean()),
        "itself": {peer: float((turned[peer] == labels[peer])[inside].mean()) for peer in PEERS},
        "clocks": clocks,
    }


def flooded(function: Any, field: Field, connectivity: int) -> np.ndarray:
    return function(field.image, field.markers, connectivity=connectivity, mask=field.mask)


def around(field: Field) -> Field:
    """The image with all axes the other way round."""
    return Field(*(None if a is None else np.flip(a).copy() for a in (field.image, field.markers, field.mask)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
