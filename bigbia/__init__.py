"""bigbia: image analysis for hyperstacks (t, c, z, y, x) that do not fit in memory.

You write scikit-image; it runs lazily, block by block, on threads or a cluster's Dask workers, over OME-Zarr, in
bounded memory, and the answer never depends on how the data are cut.

    import bigbia

    image = bigbia.open("cells.zarr")
    smooth = bigbia.filters.gaussian(image, "0.5 um")
    nuclei = bigbia.measure.label(smooth > bigbia.filters.threshold_otsu(smooth))
    table = bigbia.measure.regionprops_table(nuclei, image)
    bigbia.save("nuclei.zarr", labels={"nuclei": nuclei}, tables={"nuclei": table})
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Imported on first use, so that `import bigbia` stays quick: name -> module, or module:attribute
_PUBLIC = {
    "concat": "bigbia.arrange:concat",
    "config": "bigbia.config",
    "errors": "bigbia.errors",
    "explain": "bigbia.run.explain:explain",
    "exposure": "bigbia.exposure",
    "feature": "bigbia.feature",
    "filters": "bigbia.filters",
    "hyperstack": "bigbia.hyperstack",
    "io": "bigbia.io",
    "measure": "bigbia.measure",
    "metrics": "bigbia.metrics",
    "morphology": "bigbia.morphology",
    "open": "bigbia.io.opening:open",
    "pipeline": "bigbia.run.pipeline_builder:PipelineBuilder",
    "record": "bigbia.run.recording:record",
    "repair": "bigbia.run.again:repair",
    "rerun": "bigbia.run.again:rerun",
    "restoration": "bigbia.restoration",
    "save": "bigbia.run.save:save",
    "segmentation": "bigbia.segmentation",
    "select": "bigbia.arrange:select",
    "stack": "bigbia.arrange:stack",
    "status": "bigbia.run.state:status",
    "transform": "bigbia.transform",
    "verify": "bigbia.run.verify:verify",
    "window": "bigbia.graph.window:window",
}
__all__ = sorted([*_PUBLIC, "__version__"])

if TYPE_CHECKING:  # so that editors and type checkers know the names
    from bigbia import (  # noqa: F401
        config,
        errors,
        exposure,
        feature,
        filters,
        hyperstack,
        io,
        measure,
        metrics,
        morphology,
        restoration,
        segmentation,
        transform,
    )
    from bigbia.arrange import concat, select, stack  # noqa: F401
    from bigbia.graph.window import window  # noqa: F401
    from bigbia.io.opening import open  # noqa: F401
    from bigbia.run.again import repair, rerun  # noqa: F401
    from bigbia.run.explain import explain  # noqa: F401
    from bigbia.run.pipeline_builder import PipelineBuilder as pipeline  # noqa: F401
    from bigbia.run.recording import record  # noqa: F401
    from bigbia.run.save import save  # noqa: F401
    from bigbia.run.state import status  # noqa: F401
    from bigbia.run.verify import verify  # noqa: F401


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'bigbia' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    found = importlib.import_module(module)
    value = getattr(found, attribute) if attribute else found
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
