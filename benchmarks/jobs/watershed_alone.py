"""One operator on one block in memory, warm, on one thread. python watershed_alone.py TASK SIZE REPEATS

prints by peer the seconds (wall and CPU) of each turn, the voxels, and how the peers' results compare with bigbia's, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from label_clock import Clock
from scipy import ndimage as ndi
from skimage.feature import peak_local_max as skimage_peaks
from skimage.morphology import reconstruction as skimage_reconstruction
from skimage.segmentation import watershed as skimage_watershed
from steps import step
from watershed_fields import noise, peaks

from bigbia.feature import peak_local_max
from bigbia.io.synthetic import source
from bigbia.morphology import distance_transform_edt, reconstruction
from bigbia.segmentation import watershed

WARM = 48
MIN_DISTANCE = 8

Arrays = Sequence[np.ndarray]
Peers = dict[str, Callable[..., np.ndarray]]


def touching(size: int) -> np.ndarray:
    return source("touching", (size,) * 3).labels.read(((0, size),) * 3) > 0


def depth(size: int) -> np.ndarray:
    return distance_transform_edt(touching(size)).astype(np.float32)


def smooth(size: int) -> tuple[np.ndarray, np.ndarray]:
    image = noise(np.random.default_rng(0), (size,) * 3, 3)
    return image, peaks(-image, 6)


def inside(size: int) -> Arrays:
    away = depth(size)
    return -away, peaks(away, MIN_DISTANCE), away > 0


def begun(size: int) -> Arrays:
    """The flood's beginning: the image at its markers, the highest value elsewhere; and the image."""
    image, markers = smooth(size)
    return np.where(markers > 0, image, image.max()), image


def distance_peers() -> Peers:
    peers: Peers = {"bigbia": distance_transform_edt, "scipy": ndi.distance_transform_edt}
    try:
        from edt import edt
    except ImportError:
        return peers
    return peers | {"edt": lambda mask: edt(mask, parallel=1)}


FACES = ndi.generate_binary_structure(3, 1)
FLOODED: Peers = {
    "bigbia": lambda image, markers, mask=None: watershed(image, markers, mask=mask),
    "skimage": lambda image, markers, mask=None: skimage_watershed(image, markers, mask=mask),
}
PEAKS: Peers = {
    name: lambda image, find=find: find(image, min_distance=MIN_DISTANCE, exclude_border=False)
    for name, find in (("bigbia", peak_local_max), ("skimage", skimage_peaks))
}
LEVEL: Peers = {
    "bigbia": lambda start, image: reconstruction(start, image, "erosion", connectivity=1),
    "skimage": lambda start, image: skimage_reconstruction(start, image, "erosion", FACES),
}
TASKS: dict[str, tuple[Callable[[int], Arrays], Callable[[], Peers]]] = {
    "distance": (lambda size: [touching(size)], distance_peers),
    "smooth": (smooth, lambda: FLOODED),
    "inside": (inside, lambda: FLOODED),
    "peaks": (lambda size: [depth(size)], lambda: PEAKS),
    "level": (begun, lambda: LEVEL),
}


def main(task: str, size: int, repeats: int) -> None:
    make, several = TASKS[task]
    peers = several()
    step("warm up")
    for function in peers.values():
        function(*make(min(size, WARM)))
    step("make")
    arrays = make(size)
    step("run")
    clocks: dict[str, list[dict[str, float]]] = {peer: [] for peer in peers}
    same: dict[str, float] = {}
    mine: Any = None
    for turn in range(repeats):
        for peer, function in peers.items():
            with Clock() as clock:
                result = function(*arrays)
            clocks[peer].append(clock.told)
            if turn == 0 and peer == "bigbia":
                mine = result
            elif turn == 0:
                same[peer] = float((result == mine).mean()) if result.shape == mine.shape else 0.0
    step("exit")
    print(json.dumps({"voxels": arrays[0].size, "clocks": clocks, "same": same}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
