"""Cases of blobs: arrays of places and sigmas at once, a table with the responses as well lazily."""

from __future__ import annotations

import numpy as np
import pandas as pd
from case import Case, linear
from cases_features import operator
from skimage import feature

import bigbia


def table(found):
    """Places and sigma of blobs, also of those that are an array."""
    if not isinstance(found, np.ndarray):
        return found.drop(columns="response")
    at = {f"axis-{a}": column.astype(np.int64) for a, column in enumerate(found.T[:-1])}
    return pd.DataFrame(at | {"sigma": found[:, -1]})


@operator(bigbia.feature.blob_log)
def blob_log(image, **kw):
    return table(bigbia.feature.blob_log(image, **kw))


@operator(bigbia.feature.blob_dog)
def blob_dog(image, **kw):
    return table(bigbia.feature.blob_dog(image, **kw))


def _blobs(function):
    return lambda a, **kw: function(a.astype(linear(a.dtype)), **kw).reshape(-1, a.ndim + 1)


LOG = {"min_sigma": 0.75, "max_sigma": 2.25, "num_sigma": 3}

CASES = {
    # in scikit-image which of overlapping blobs stay is not defined: all of them
    "blob_log": Case(
        blob_log,
        LOG | {"threshold": 5, "overlap": 1.0},
        _blobs(feature.blob_log),
        ("uint8", "uint16", "float64"),
        tasks=1.2,
        dims=(1, 3),
    ),
    "blob_log-overlap": Case(blob_log, LOG | {"threshold": 0.1, "overlap": 0.3}, None, ("uint8", "float32"), tasks=1.2),
    "blob_dog": Case(
        blob_dog,
        {"min_sigma": 0.5, "max_sigma": 2, "sigma_ratio": 2, "threshold_rel": 0.2, "overlap": 1.0},
        _blobs(feature.blob_dog),
        ("int16", "float64"),
        tasks=2.3,
        dims=(1, 3),
    ),
}
