"""The exceptions bigbia raises.

    BigbiaError                     exit code 1
    ├── InputError (ValueError)     3   the image or file is not what it must be: missing, damaged, wrong kind
    ├── ParameterError (ValueError) 2   an argument, a pipeline file or a plan that cannot work
    ├── RunError (RuntimeError)     4   a run stopped: a block failed, the output exists, another run is writing
    │   └── BlockError                  one block could not be computed; names the block
    ├── StorageError (OSError)      5   a disk or an object store did not do what was asked
    └── MissingExtraError (ImportError) 6   an optional package is not installed; names the command to type

Each message is one line: what the user said, where, the figures, and the way out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BigbiaError(Exception):
    """Anything that bigbia refuses or cannot do."""

    exit_code = 1


class InputError(BigbiaError, ValueError):
    """The image, table or file is not what it must be."""

    exit_code = 3


class ParameterError(BigbiaError, ValueError):
    """An argument, a pipeline or a plan that cannot work."""

    exit_code = 2


class RunError(BigbiaError, RuntimeError):
    """A run that stopped."""

    exit_code = 4


class BlockError(RunError):
    """A block that could not be computed."""


class StorageError(BigbiaError, OSError):
    """A disk or an object store that did not do what was asked."""

    exit_code = 5


class MissingExtraError(BigbiaError, ImportError):
    """An optional package that is not installed."""

    exit_code = 6

    @classmethod
    def of(cls, package: str, purpose: str, extra: str) -> MissingExtraError:
        return cls(f'{purpose} needs the package {package}: pip install "bigbia[{extra}]"')


class BigbiaWarning(UserWarning):
    """Something that is allowed but worth knowing."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` where a known name is close to the word, else the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + (", ".join(known) if known else "none")


def reason(error: BaseException) -> str:
    """What another package's error says, in one line that ends."""
    return " ".join(str(error).split())[:200] or type(error).__name__
