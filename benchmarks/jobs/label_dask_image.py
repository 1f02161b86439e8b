"""Label a mask with dask-image, Zarr to Zarr. python label_dask_image.py INPUT OUTPUT CHUNK CONNECTIVITY

Its labelling grows with the square of the number of blocks, so it is given eight large blocks, whatever the chunks.
"""

import sys

import numpy as np
from dask_image import ndmeasure
from job_dask_image import opened, stored
from scipy import ndimage as ndi
from steps import step


def main(source: str, target: str, chunk: int, connectivity: int) -> None:
    step("build")
    structure = ndi.generate_binary_structure(3, connectivity)
    labels, _ = ndmeasure.label(opened(f"{source}/0"), structure=structure)
    step("run and write")
    stored(labels.astype(np.uint32), f"{target}/labels/objects/0", chunk)
    step("exit")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
