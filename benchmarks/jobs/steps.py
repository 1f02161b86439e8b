"""What a job is doing: a line with the time for each step, read by `measure.py`."""

import time


def step(name: str) -> None:
    print(f"{time.time():.3f} {name}", flush=True)


class Steps:
    """The same, as a `progress` of bigbia.save."""

    def begin(self, stage: str, total: int, voxels: int) -> None:
        step(stage)

    def advance(self, n: int) -> None:
        pass

    def end(self) -> None:
        pass
