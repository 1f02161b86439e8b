"""Wall and CPU seconds of a part of this process, all its threads together."""

from __future__ import annotations

import time
from typing import Any


class Clock:
    """`with Clock() as clock: ...`, then `clock.told`."""

    def __enter__(self) -> Clock:
        self.began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: Any) -> None:
        self.wall, self.cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]

    @property
    def told(self) -> dict[str, float]:
        return {"wall": self.wall, "cpu": self.cpu}
