"""The main job in memory, as one writes it with zarr, SciPy and scikit-image. python job_memory.py INPUT OUTPUT CHUNK

SciPy's Gaussian, not scikit-image's: that one would turn the image into float64, at twice the memory and more time.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops_table
from steps import step
from zarr.codecs import Crc32cCodec, ZstdCodec

PROPERTIES = ["label", "area", "bbox", "centroid", "intensity_mean"]


def main(source: str, target: str, chunk: int) -> None:
    step("read")
    image = zarr.open_array(f"{source}/0", mode="r")[...]
    step("gaussian")
    smooth = ndi.gaussian_filter(image, 2, mode="nearest", output=np.float32)
    step("otsu")
    threshold = threshold_otsu(smooth)
    step("label")
    labels = label(smooth > threshold, connectivity=3)
    step("table")
    table = pd.DataFrame(regionprops_table(labels, image, properties=PROPERTIES))
    step("write")
    array = zarr.create_array(
        f"{target}/labels/nuclei/0",
        shape=labels.shape,
        dtype="uint32",
        chunks=tuple(min(chunk, n) for n in labels.shape),
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    array[...] = labels.astype(np.uint32)
    Path(target, "tables").mkdir()
    table.to_parquet(f"{target}/tables/nuclei.parquet", index=False)
    step("exit")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
