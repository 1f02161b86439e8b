"""When tasks fail: which are tried again alone, and when the run stops.

A block that fails is set aside and the others go on, so that what can be done is done and all that is wrong is known at
once. The run stops at once where every block would fail: no room on the disk, or too many failures (a circuit breaker).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bigbia.errors import BigbiaError, RunError, StorageError
from bigbia.graph.boxes import Index
from bigbia.run.tasks import Failure

FIRST = 10  # failures without a success: something is fundamentally wrong
MOST = 50
GO_ON = "the blocks that are done are safe: make room and run again to go on"
SHARE = 0.05  # of a step's blocks, if that is more than FIRST


class Stopped(Exception):
    """The step must not go on."""


@dataclass
class Failures:
    """The failures of one step."""

    total: int  # its tasks
    succeeded: int = 0
    found: list[Failure] = field(default_factory=list)
    alone: list[Failure] = field(default_factory=list)  # to be tried again, by themselves
    given_up: list[Failure] = field(default_factory=list)  # that the run was told to do without

    def add(self, failure: Failure) -> None:
        """Note a failure. Stopped where the step should end now."""
        if failure.why in ("memory", "killed"):
            self.alone.append(failure)
        else:
            self.found.append(failure)
        if failure.why == "full" or self.broken():
            raise Stopped

    def broken(self) -> bool:
        n = len(self.found) + len(self.alone)
        return (n >= FIRST and not self.succeeded) or n > min(MOST, max(FIRST, SHARE * self.total))

    def take_alone(self) -> Iterator[Index]:
        """The blocks to be tried alone, each once."""
        while self.alone:
            yield self.alone.pop(0).block

    def error(self) -> BigbiaError | None:
        """What the run says of them, of the first one's kind; None without any."""
        every = [*self.found, *self.alone]
        if not every:
            return None
        full = next((f for f in every if f.why == "full"), None)
        if full is not None:
            raised = StorageError(f"{full.error}; {GO_ON}")
            raised.errno = getattr(full.error, "errno", None)
            return raised
        if len(every) == 1:
            return every[0].error
        kinds = {type(f.error) for f in every}
        kind = kinds.pop() if len(kinds) == 1 else RunError
        stop = ": stopped, since more would" if self.broken() else ""
        return kind(f"{every[0].error} (and {len(every) - 1} more of {self.total} blocks failed{stop})")
