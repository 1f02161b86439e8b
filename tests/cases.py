"""Every operator, once: what it is held to by test_contract.py. `case.py` says what a line may say."""

from __future__ import annotations

import cases_blobs
import cases_features
import cases_levels
import cases_linear
import cases_ranks
import cases_transform
import cases_views
import numpy as np
from case import Case, seed_of
from scipy import ndimage as ndi
from skimage import feature, filters, measure, metrics, morphology, segmentation

import bigbia


def canonical(labels: np.ndarray) -> np.ndarray:
    """Renumbered by first voxel in raster order.

    Scikit-image leaves that order for integer images with an axis of length 1.
    """
    values, first = np.unique(labels, return_index=True)
    first = first[values > 0]
    values = values[values > 0]
    table = np.zeros(int(labels.max(initial=0)) + 1, np.uint32)
    table[values[np.argsort(first)]] = np.arange(1, len(values) + 1)
    return table[labels]


def _label(a, connectivity=None, background=0):
    if a.ndim > 3 and a.dtype != bool:
        return _label_by_value(a, connectivity, background)
    return canonical(measure.label(a, connectivity=connectivity, background=background))


def _label_by_value(a, connectivity, background):
    """scikit-image labels integers in up to 3 axes; the same rule in 4."""
    structure = ndi.generate_binary_structure(a.ndim, connectivity or a.ndim)
    out = np.zeros(a.shape, np.int64)
    for value in np.unique(a[a != background]):
        part = ndi.label(a == value, structure)[0]
        out[part > 0] = part[part > 0] + out.max()
    return canonical(out)


def _relabel(a, offset=1):
    return segmentation.relabel_sequential(a, offset)[0]


def _join(a):
    wide = a.astype(np.int64)  # scikit-image multiplies labels in the image's own dtype
    return segmentation.join_segmentations(wide, wide)


def _contingency(a):
    found = metrics.contingency_table(a, a).tocoo()
    order = np.lexsort((found.col, found.row))
    return np.stack([found.row, found.col, found.data.astype(np.int64)], axis=1)[order]


def _filter(a, condition):
    assert condition == "num_pixels > 1 and extent >= 0.5"
    regions = measure.regionprops(a)
    return np.where(np.isin(a, [r.label for r in regions if r.num_pixels > 1 and r.extent >= 0.5]), a, 0)


LABELS = ("uint8", "int16", "int32")


def _clear_border(a, buffer_size=0):
    return segmentation.clear_border(a, min(buffer_size, min(a.shape) - 1))


def _keep_largest(a, n=1, connectivity=None):
    labels = ndi.label(a, ndi.generate_binary_structure(a.ndim, connectivity or a.ndim))[0]
    sizes = np.bincount(labels.ravel())[1:]
    return np.isin(labels, np.argsort(-sizes, kind="stable")[:n] + 1)


def _remove_large(a, min_size, connectivity=1):
    return a & ~morphology.remove_small_objects(a, max_size=min_size - 1, connectivity=connectivity)


def _edt(a, sampling=None, max_distance=np.inf, per_label=False):
    """SciPy's, and inf where there is no background: it measures to a voxel outside the image then."""
    if per_label:
        each = [np.where(a == v, _edt(a == v, sampling), 0) for v in np.unique(a[a != 0])]
        return np.minimum(np.max(each, axis=0) if each else np.zeros(a.shape), max_distance)
    out = np.full(a.shape, np.inf) if a.all() else ndi.distance_transform_edt(a, sampling=sampling)
    return np.minimum(out, max_distance)


def _isotropic(steps):
    """scikit-image's isotropic morphology, with these distances: erosion and dilation one after another."""

    def reference(a, radius, spacing=None):
        for step in steps:
            a = _edt(a != 0, spacing) > radius if step == "e" else _edt(a == 0, spacing) <= radius
        return a

    return reference


def _reconstruction(takes):
    def reference(a, connectivity=None, method="dilation"):
        footprint = ndi.generate_binary_structure(a.ndim, connectivity or a.ndim)
        return morphology.reconstruction(seed_of(a, takes).astype(float), a.astype(float), method, footprint)

    return reference


def _standing_out(name):
    return lambda a, h: getattr(morphology, name)(a, h).astype(bool)


def _peaks(a, **kw):
    at = feature.peak_local_max(a, **kw)
    return np.column_stack([at, a[tuple(at.T)]])


def _peak_markers(a, output, **kw):
    out = np.zeros(a.shape, np.uint32)
    out[tuple(feature.peak_local_max(a, **kw).T)] = 1
    out[out > 0] = np.arange(1, out.sum() + 1)
    return out


CASES = {
    "threshold_otsu": Case(
        bigbia.filters.threshold_otsu,
        {},
        filters.threshold_otsu,
        ("uint8", "uint16", "int16", "int32", "float32", "float64"),
        tasks=4.5,
    ),
    "label": Case(bigbia.measure.label, {}, _label, ("bool", "uint8", "int16", "int32"), tasks=4.0, empty=True),
    "label-faces": Case(
        bigbia.measure.label, {"connectivity": 1}, _label, ("bool", "uint8", "int32"), tasks=4.0, empty=True
    ),
    "label-background": Case(
        bigbia.measure.label, {"background": 5}, _label, ("uint8", "int16"), tasks=4.0, empty=True
    ),
    "objects": Case(bigbia.measure.objects, {}, None, ("bool", "uint8", "int32"), tasks=4.0),
    "objects-intensity": Case(
        bigbia.measure.objects, {"connectivity": 1}, None, ("bool", "uint16", "float32"), "mask", tasks=5.0
    ),
    "regionprops_table": Case(bigbia.measure.regionprops_table, {}, None, ("uint8", "int32"), "labels", tasks=1.2),
    "remove_small_objects": Case(
        bigbia.morphology.remove_small_objects,
        {"max_size": 3},
        morphology.remove_small_objects,
        ("bool",),
        tasks=4.0,
    ),
    "remove_small_objects-labels": Case(
        bigbia.morphology.remove_small_objects,
        {"max_size": 2},
        morphology.remove_small_objects,
        ("uint8", "int32"),
        tasks=4.0,
    ),
    "remove_large_objects": Case(
        bigbia.morphology.remove_large_objects, {"min_size": 4}, _remove_large, ("bool",), tasks=4.0
    ),
    "keep_largest": Case(bigbia.morphology.keep_largest, {"n": 2}, _keep_largest, ("bool",), tasks=4.0),
    "remove_small_holes": Case(
        bigbia.morphology.remove_small_holes,
        {"max_size": 2, "connectivity": 1},
        morphology.remove_small_holes,
        ("bool",),
        tasks=4.0,
    ),
    "fill_holes": Case(bigbia.morphology.fill_holes, {}, ndi.binary_fill_holes, ("bool",), tasks=4.0),
    "clear_border": Case(
        bigbia.segmentation.clear_border, {}, _clear_border, ("bool", "uint8", "int32"), tasks=4.0, dims=(1, 3)
    ),
    "histogram": Case(bigbia.exposure.histogram, {}, None, ("uint8", "int16", "float32"), tasks=4.5),
    "relabel_sequential": Case(bigbia.segmentation.relabel_sequential, {}, _relabel, LABELS, tasks=2.5),
    "relabel-offset": Case(
        bigbia.segmentation.relabel_sequential, {"offset": 7}, _relabel, ("uint16", "int32"), tasks=2.5
    ),
    "join_segmentations": Case(bigbia.segmentation.join_segmentations, {}, _join, LABELS, "labels", tasks=2.5),
    "find_boundaries": Case(
        bigbia.segmentation.find_boundaries, {}, segmentation.find_boundaries, ("bool", "uint8", "int16", "int32")
    ),
    "find_boundaries-inner": Case(
        bigbia.segmentation.find_boundaries,
        {"mode": "inner", "background": 5},
        segmentation.find_boundaries,
        ("uint8", "int16"),
    ),
    "find_boundaries-outer": Case(
        bigbia.segmentation.find_boundaries, {"mode": "outer"}, segmentation.find_boundaries, ("bool", "uint8", "int32")
    ),
    "filter_labels": Case(
        bigbia.segmentation.filter_labels,
        {"condition": "num_pixels > 1 and extent >= 0.5"},
        _filter,
        LABELS,
        "table",
        tasks=2.5,
        dims=(2, 3),
    ),
    "local_maxima": Case(bigbia.morphology.local_maxima, {}, morphology.local_maxima, tasks=4.0),
    "local_maxima-faces": Case(
        bigbia.morphology.local_maxima,
        {"connectivity": 1},
        morphology.local_maxima,
        ("bool", "int16", "float32"),
        tasks=4.0,
    ),
    "local_minima": Case(
        bigbia.morphology.local_minima, {}, morphology.local_minima, ("bool", "uint8", "int32", "float64"), tasks=4.0
    ),
    "contingency_table": Case(bigbia.metrics.contingency_table, {}, _contingency, LABELS, "labels", tasks=1.2),
    "contingency_table-shares": Case(
        bigbia.metrics.contingency_table,
        {"normalize": True, "ignore_labels": [0, 5]},
        None,
        ("uint16", "int32"),
        "labels",
        tasks=1.2,
    ),
    "matching": Case(bigbia.metrics.matching, {}, None, ("bool", "uint8", "int32"), "mask", tasks=1.2),
    "distance_transform_edt": Case(
        bigbia.morphology.distance_transform_edt, {}, _edt, ("bool", "uint8", "int32"), tasks=4.5
    ),
    "distance_transform_edt-sampling": Case(
        bigbia.morphology.distance_transform_edt, {"sampling": 3}, _edt, ("bool",), tasks=4.5
    ),
    "distance_transform_edt-clipped": Case(
        bigbia.morphology.distance_transform_edt, {"max_distance": 2.5}, _edt, ("bool", "int32")
    ),
    "distance_transform_edt-labels": Case(
        bigbia.morphology.distance_transform_edt, {"per_label": True}, _edt, ("uint8", "int16", "int32"), tasks=4.5
    ),
    "isotropic_erosion": Case(bigbia.morphology.isotropic_erosion, {"radius": 1.5}, _isotropic("e"), ("bool", "uint8")),
    "isotropic_dilation": Case(bigbia.morphology.isotropic_dilation, {"radius": 2}, _isotropic("d"), ("bool", "uint8")),
    "isotropic_opening": Case(
        bigbia.morphology.isotropic_opening, {"radius": 1, "spacing": 1}, _isotropic("ed"), ("bool",)
    ),
    "isotropic_closing": Case(
        bigbia.morphology.isotropic_closing, {"radius": 4, "spacing": 2}, _isotropic("de"), ("bool",)
    ),
    "expand_labels": Case(
        bigbia.segmentation.expand_labels, {"distance": 2.5}, segmentation.expand_labels, ("uint8", "int16", "int32")
    ),
    "reconstruction": Case(
        bigbia.morphology.reconstruction,
        {"connectivity": 1},
        _reconstruction("seed"),
        ("uint8", "int16", "float32", "float64"),
        "seed",
        tasks=2.0,
    ),
    "reconstruction-erosion": Case(
        bigbia.morphology.reconstruction,
        {"method": "erosion"},
        _reconstruction("seed above"),
        ("uint8", "int32", "float32"),
        "seed above",
        tasks=2.0,
    ),
    "h_maxima": Case(
        bigbia.morphology.h_maxima, {"h": 20}, _standing_out("h_maxima"), ("uint8", "int16", "float32"), tasks=3.5
    ),
    "h_minima": Case(
        bigbia.morphology.h_minima, {"h": 2.5}, _standing_out("h_minima"), ("uint8", "uint16", "float64"), tasks=3.5
    ),
    "peak_local_max": Case(
        bigbia.feature.peak_local_max,
        {"min_distance": 2},
        _peaks,
        ("uint8", "uint16", "int16", "int32", "float32", "float64"),
        "peaks",
        tasks=2.5,
    ),
    "peak_local_max-few": Case(
        bigbia.feature.peak_local_max,
        {"threshold_rel": 0.3, "num_peaks": 3, "p_norm": 2, "min_distance": 3},
        _peaks,
        ("uint8", "float32"),
        "peaks",
        tasks=2.5,
    ),
    "peak_local_max-markers": Case(
        bigbia.feature.peak_local_max,
        {"min_distance": 1, "exclude_border": False, "output": "markers"},
        _peak_markers,
        ("uint8", "int32", "float32"),
        tasks=3.5,
    ),
    "watershed": Case(bigbia.segmentation.watershed, {"markers": 5}, None, tasks=8.0),
    "watershed-lines": Case(
        bigbia.segmentation.watershed,
        {"markers": 9, "connectivity": 1, "watershed_line": True, "marker_level": "lowest"},
        None,
        ("uint8", "float64"),
        tasks=8.0,
    ),
    "split_touching": Case(
        bigbia.segmentation.split_touching,
        {"min_distance": 2},
        None,
        ("bool", "uint8"),
        tasks=25.0,
        dims=(1, 3),
        by_size=True,
    ),
}

for part in (cases_linear, cases_ranks, cases_levels, cases_transform, cases_features, cases_blobs, cases_views):
    CASES |= part.CASES
