"""What a run is: the same in every process, and named where it differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import cases
import dask.array as da
import numpy as np

import bigbia
from bigbia.graph.dask import from_source, node_of
from bigbia.graph.stages import stages_of
from bigbia.graph.table import table_graph
from bigbia.run.fingerprint import differences, has_live, inputs_of, told, versions


class Fixed:
    """A source that is the same one in every process."""

    def __init__(self, voxels):
        self.voxels, self.shape, self.dtype = voxels, voxels.shape, voxels.dtype
        self.chunks = tuple(min(6, n) for n in voxels.shape)
        self.token = f"fixed-{voxels.dtype}"

    def read(self, box):
        return self.voxels[tuple(slice(*b) for b in box)]


def tokens_of(result):
    """The tokens of all nodes and stages of a lazy result."""
    if isinstance(result, tuple):
        return [token for one in result for token in tokens_of(one)]
    if (graph := table_graph(result)) is not None:
        return [token for p in graph.parts for s in [*stages_of(p.stage.inputs), p.stage] for token in (s.token,)]
    array = getattr(result, "data", result) if not isinstance(result, da.Array) else result
    if not isinstance(array, da.Array) or any(np.isnan(n) for n in array.shape):
        return []
    node = node_of(array)[0]
    return [node.token, *(stage.token for stage in stages_of([node]))]


def every_token():
    found = {}
    for name, case in cases.CASES.items():
        ndim = max(case.dims[0], min(3, case.dims[1]))
        voxels = np.random.default_rng(0).integers(0, 50, (12,) * ndim).astype(case.dtypes[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = tokens_of(case(from_source(Fixed(voxels), 6)))
    return found


def test_every_operator_has_the_same_tokens_in_every_process():
    """Else a run that was stopped could not be gone on with by another process."""
    here = Path(__file__).parent
    code = f"import sys, json; sys.path.insert(0, {str(here)!r}); import test_fingerprint as t; print(json.dumps(t.every_token()))"
    runs = []
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(here.parent)}
        runs.append(subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True))
    first, second = (json.loads(run.communicate()[0].splitlines()[-1]) for run in runs)
    assert len(first) == len(cases.CASES)
    assert sum(map(len, first.values())) > len(first)
    assert [name for name in first if first[name] != second[name]] == []


def test_parts_that_differ_are_named():
    step = {"steps": {"smooth": {"op": "filters.gaussian", "sigma": 1}}}
    old = {
        "pipeline": step,
        "input": {"a.zarr": "1"},
        "output": {"image": {"voxels": "x", "dtype": "uint8"}},
        "versions": {"numpy": "2.0"},
    }
    assert differences(old, json.loads(json.dumps(old))) == []
    new = json.loads(json.dumps(old))
    new["pipeline"]["steps"]["smooth"]["sigma"] = 2
    new["output"]["image"]["voxels"] = "y"
    assert differences(old, new) == ["pipeline.steps.smooth.sigma: 1 -> 2"]  # voxels follow from it
    new["input"]["a.zarr"], new["versions"]["numpy"] = "2", "2.1"
    assert differences(old, new) == [
        "input.a.zarr changed",
        "pipeline.steps.smooth.sigma: 1 -> 2",
        'versions.numpy: "2.0" -> "2.1"',
    ]
    other = json.loads(json.dumps(old))
    other["output"]["image"]["voxels"] = "z"
    assert differences(old, other) == ["output.image.voxels changed"]
    assert told([f"{i}" for i in range(6)]) == "0; 1; 2; 3; and 2 more"


def test_inputs_and_live_arrays_are_found_behind_stages():
    source = Fixed(np.random.default_rng(0).random((20, 20)))
    image = from_source(source, 10)
    labels = node_of(bigbia.measure.label(image > bigbia.filters.threshold_otsu(image)))[0]
    assert list(inputs_of([labels]).values()) == [source.token]
    assert not has_live([labels])
    foreign = da.from_array(source.voxels, chunks=5).map_blocks(np.sqrt, dtype=float).map_blocks(lambda b: b - b.mean())
    assert has_live([node_of(bigbia.measure.label(foreign > bigbia.filters.threshold_otsu(foreign)))[0]])


def test_versions_name_what_computes():
    assert {"bigbia", "python", "numpy", "scipy", "scikit-image", "numba"} <= set(versions())
