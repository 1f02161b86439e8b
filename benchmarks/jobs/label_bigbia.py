"""Label a mask with bigbia, Zarr to Zarr. python label_bigbia.py INPUT OUTPUT CHUNK CONNECTIVITY"""

import sys

from steps import Steps, step

import bigbia


def main(source: str, target: str, chunk: int, connectivity: int) -> None:
    step("open")
    labels = bigbia.measure.label(bigbia.open(source), connectivity=connectivity)
    bigbia.save(target, labels={"objects": labels}, chunks=chunk, levels=1, progress=Steps())
    step("exit")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
