"""The main job with dask-image. python job_dask_image.py INPUT OUTPUT CHUNK

As kind to dask-image as can be:
- Otsu's threshold needs values before the mask can be built, and the table needs the number of labels; each would
  compute all that lies before it once more. So the smoothed image and the labels are stored and read back.
- Its labelling grows with the square of the number of blocks, so it is given eight large blocks, whatever the chunks.
"""

import sys
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pandas as pd
import zarr
from dask_image import ndfilters, ndmeasure
from skimage.filters import threshold_otsu
from steps import step
from zarr.codecs import Crc32cCodec, ZstdCodec


def main(source: str, target: str, chunk: int) -> None:
    step("gaussian")
    image = opened(f"{source}/0")
    stored(ndfilters.gaussian_filter(image.astype(np.float32), 2, mode="nearest"), f"{target}/smooth", chunk)
    smooth = opened(f"{target}/smooth")
    step("otsu: extrema")
    low, high = dask.compute(smooth.min(), smooth.max())
    step("otsu: histogram")
    counts, edges = da.histogram(smooth, bins=256, range=[low, high])
    threshold = threshold_otsu(hist=(counts.compute(), (edges[1:] + edges[:-1]) / 2))
    step("label: build")
    labels, _ = ndmeasure.label(smooth > threshold, structure=np.ones((3, 3, 3)))
    step("label: run and write")
    stored(labels.astype(np.uint32), f"{target}/labels/nuclei/0", chunk)
    step("table")
    table = measured(image, opened(f"{target}/labels/nuclei/0"))
    Path(target, "tables").mkdir()
    table.to_parquet(f"{target}/tables/nuclei.parquet", index=False)
    step("exit")


def opened(place: str) -> da.Array:
    """Two blocks an axis, of whole chunks."""
    array = zarr.open_array(place, mode="r")
    return da.from_array(array, chunks=tuple(max(c, -(-n // (2 * c)) * c) for n, c in zip(array.shape, array.chunks)))


def stored(array: da.Array, place: str, chunk: int) -> None:
    target = zarr.create_array(
        place,
        shape=array.shape,
        dtype=array.dtype,
        chunks=tuple(min(chunk, n) for n in array.shape),
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    da.store(array, target, lock=False)  # blocks are whole chunks


def measured(image: da.Array, labels: da.Array) -> pd.DataFrame:
    index = np.arange(1, int(labels.max()) + 1)
    area, mean, centroid = dask.compute(
        ndmeasure.area(image, labels, index),
        ndmeasure.mean(image, labels, index),
        ndmeasure.center_of_mass(da.ones_like(image), labels, index),
    )
    boxes = ndmeasure.find_objects(labels).compute().sort_index()
    columns = {"label": index, "area": area.astype(float)}
    columns |= {f"bbox-{a}": [s.start for s in boxes[a]] for a in range(3)}
    columns |= {f"bbox-{a + 3}": [s.stop for s in boxes[a]] for a in range(3)}
    columns |= {f"centroid-{a}": centroid[:, a] for a in range(3)}
    return pd.DataFrame(columns | {"intensity_mean": mean})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
