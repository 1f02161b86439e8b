"""The main job with bigbia. python job_bigbia.py INPUT OUTPUT CHUNK"""

import sys

from steps import Steps, step

import bigbia

PROPERTIES = ["label", "area", "bbox", "centroid", "intensity_mean"]


def main(source: str, target: str, chunk: int) -> None:
    step("open")
    image = bigbia.open(source)
    smooth = bigbia.filters.gaussian(image, 2, mode="nearest")
    nuclei = bigbia.measure.label(smooth > bigbia.filters.threshold_otsu(smooth))
    table = bigbia.measure.regionprops_table(nuclei, image, properties=PROPERTIES)
    bigbia.save(target, labels={"nuclei": nuclei}, tables={"nuclei": table}, chunks=chunk, levels=1, progress=Steps())
    step("exit")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
