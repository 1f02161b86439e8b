"""How the images of a run are shown at first: colours known beforehand, windows taken of the voxels when all are there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bigbia import hyperstack
from bigbia.errors import StorageError
from bigbia.graph.regions import Concat, Node, Store, View
from bigbia.io.display import Window, colors_of, window_given, windows_of, with_windows
from bigbia.io.durable import replace, storage_errors
from bigbia.run.ledger import FOLDER

if TYPE_CHECKING:
    from bigbia.run.contract import Run
    from bigbia.run.output import Output

MASK: Window = (0.0, 1.0)


@dataclass(frozen=True)
class Shown:
    """How an image is shown: for each channel a colour, and a window where it is known before the voxels are."""

    names: tuple[str, ...] | None  # None: those of `create_image`
    colors: tuple[str, ...]
    windows: tuple[Window | None, ...]
    limits: Window | None = None

    def described(self) -> dict[str, Any]:
        """For the fingerprint of a run."""
        return {"colors": list(self.colors), "windows": [None if w is None else list(w) for w in self.windows]}


def display_of(image: Any) -> dict[str, dict[str, Any]]:
    """What the file said of an image that `bigbia.open` gave: channel name -> colour, window."""
    found = image.encoding.get("display") if hyperstack.is_hyperstack(image) else None
    known = found if isinstance(found, Mapping) else {}
    return {str(name): dict(one) for name, one in known.items() if isinstance(one, Mapping)}


def shown_as(array: Any, node: Node, given: Mapping[str, Mapping[str, Any]]) -> Shown:
    """How an image is shown.

    array : the DataArray that is written
    node : its voxels; the windows of a file are kept where these are the file's own
    given : what the files said, by channel name; "" for an image without channels
    """
    names: tuple[str, ...] | None = hyperstack.channels(array)
    if "c" in array.dims:
        keys = names or tuple(map(str, range(array.sizes["c"])))
    else:
        names = (str(array.coords["c"].item()),) if "c" in array.coords else None  # the channel that was picked
        keys = names or ("",)
    if node.dtype == bool:
        return Shown(names, tuple(colors_of(keys, given)), (MASK,) * len(keys), MASK)
    own = _read_as_it_is(node)
    windows = tuple(window_given(given.get(key)) if own else None for key in keys)
    return Shown(names, tuple(colors_of(keys, given)), windows)


def _read_as_it_is(node: Node) -> bool:
    """Whether the voxels are those of files, wherever they lie."""
    if isinstance(node, View | Concat):
        return all(map(_read_as_it_is, node.children))
    return isinstance(node, Store)


def show(run: Run, output: Output) -> None:
    """Take the windows that are not known of the coarsest level, into the metadata that the run holds back."""
    if not takes_windows(output):
        return
    axes = tuple(map(str, output.array.dims))
    try:
        found = windows_of(output.arrays[-1], axes)
    except (OSError, ValueError, RuntimeError) as error:
        raise StorageError(
            f"{run.root / output.names()[-1]}: cannot be read back: {' '.join(str(error).split())}; run again"
        ) from None
    path = run.root / FOLDER / "held" / group_document(output)
    with storage_errors(path):
        replace(path, json.dumps(shown_in(json.loads(path.read_bytes()), output, found), indent=2).encode())


def takes_windows(output: Output) -> bool:
    """Whether there are windows that are only known from the voxels."""
    return output.shown is not None and not all(output.shown.windows)


def group_document(output: Output) -> str:
    """The document of an image's group, by its name in the output."""
    return f"{output.place}/{'zarr.json' if output.version == '0.5' else '.zattrs'}".lstrip("/")


def shown_in(document: dict[str, Any], output: Output, found: Sequence[tuple[Window, Window]]) -> dict[str, Any]:
    """The document of an image's group with the windows that were not known before."""
    known = output.shown.windows if output.shown is not None else ()
    windows = [new if before is None else None for new, before in zip(found, known)]
    if output.version == "0.5":
        return {**document, "attributes": with_windows(document["attributes"], windows)}
    return with_windows(document, windows)
