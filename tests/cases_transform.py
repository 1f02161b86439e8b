"""Cases of tests/cases.py: transform and the restoration that has neighbourhoods of its own."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
from case import Case, linear
from scipy import ndimage as ndi
from skimage import restoration, transform

import bigbia


@dataclass(frozen=True)
class Resized(Case):
    """Its voxels have other sizes, in proportion to the lengths or by `factor`; here they are given back the old ones."""

    factor: float = 0.0

    def __call__(self, image: Any) -> Any:
        out = super().__call__(image)
        if not bigbia.hyperstack.is_hyperstack(image):
            return out
        for axis in (d for d in "zyx" if d in image.coords):
            n, m = image.sizes[axis], out.sizes[axis]
            coord = out.coords[axis]
            factor = self.factor or n / m
            old = np.arange(m) * (float(coord[1] - coord[0]) / factor)
            attrs = coord.attrs | {"voxel_size": coord.attrs["voxel_size"] / factor}
            out = out.assign_coords({axis: (axis, old, attrs)})
        return out


def _zoom(a: np.ndarray, shape: tuple[int, ...], order: int | None, mode: str, cval: float = 0.0) -> np.ndarray:
    order = (0 if a.dtype == bool else 1) if order is None else order
    mode = {"reflect": "mirror", "symmetric": "reflect", "wrap": "grid-wrap", "constant": "grid-constant"}[mode]
    out = ndi.zoom(
        a.view(np.uint8) if a.dtype == bool else a,
        [m / n for n, m in zip(a.shape, shape)],
        order=order,
        mode=mode,
        cval=cval,
        grid_mode=True,
        output=None if order == 0 else linear(a.dtype),
    )
    return out.view(bool) if a.dtype == bool else out


def _rescale(a, scale, order=None, mode="reflect", cval=0.0, anti_aliasing=None):
    shape = tuple(max(1, int(np.round(scale * n))) for n in a.shape)
    if anti_aliasing is False or scale > 1 or a.dtype == bool:
        return _zoom(a, shape, order, mode, cval)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transform.resize(a, shape, order, mode, cval, preserve_range=True)


@wraps(bigbia.transform.resize)
def _to_seven(image, **kw):
    return bigbia.transform.resize(image, [7] * len(bigbia.hyperstack.spatial_axes(image)), **kw)


def _project(a, method="max", axis=0):
    if method in ("max", "min"):
        return getattr(np, method)(a, axis)
    if a.dtype.kind == "f":
        total = np.add.accumulate(a, axis, np.float64).take(-1, axis)
    else:
        total = a.sum(axis)
    return total if method == "sum" else (total / a.shape[axis]).astype(linear(a.dtype))


PSF = np.array([0.25, 0.5, 0.25])


def _blurred(function):
    """An operator with a PSF of as many axes as the image has of space."""

    @wraps(function)
    def call(image, **kw):
        axes = len(bigbia.hyperstack.spatial_axes(image))
        psf = PSF
        for _ in range(axes - 1):
            psf = np.multiply.outer(psf, PSF)
        return function(image, psf, **kw)

    return call


def _richardson_lucy(a, num_iter):
    with np.errstate(all="ignore"):
        return _blurred(restoration.richardson_lucy)(a.astype(float), num_iter=num_iter, clip=False)


def _tv(a, weight, max_num_iter):
    return restoration.denoise_tv_chambolle(a.astype(linear(a.dtype)), weight, eps=0, max_num_iter=max_num_iter)


def _in_place(function):
    """An operator whose result is given the places of the image back; a matrix of as many axes as it has of space."""

    @wraps(function)
    def call(image, **kw):
        axes = len(bigbia.hyperstack.spatial_axes(image))
        if "matrix" in kw:
            kw = {"offset": 0.7, **kw, "matrix": kw["matrix"][-axes:, -axes:]}
        out = function(image, **kw)
        if bigbia.hyperstack.is_hyperstack(image):
            out = out.assign_coords({d: image.coords[d] for d in "zyx" if d in image.coords})
        return out

    return call


MATRIX = np.array([[0.9, 0.2, 0.1], [-0.3, 1.1, 0.4], [0.1, -0.6, 0.8]])


def _affine(a, matrix, order=1, **kw):
    def call(image, matrix, offset):
        kind = None if order == 0 else linear(a.dtype)
        return ndi.affine_transform(image, matrix, offset, order=order, output=kind, **kw)

    return _in_place(call)(a, matrix=matrix)


def _rotate(a, angle, mode="constant"):
    order = 0 if a.dtype == bool else 1
    planes = [
        transform.rotate(p, angle, order=order, mode=mode, preserve_range=True, clip=False)
        for p in a.reshape(-1, *a.shape[-2:])
    ]
    return np.stack(planes).reshape(a.shape).astype(a.dtype if order == 0 else linear(a.dtype))


def _bilateral(a, sigma_color, mode):
    """The definition, window by window."""
    padded = np.pad(a.astype(float), 3, mode=mode)
    total, weights = np.zeros(a.shape), np.zeros(a.shape)
    for offset in np.ndindex((7,) * a.ndim):
        there = padded[tuple(slice(o, o + n) for o, n in zip(offset, a.shape))]
        w = np.exp(-0.5 * sum((o - 3) ** 2 for o in offset)) * np.exp(-0.5 * ((there - a) / sigma_color) ** 2)
        total += w * there
        weights += w
    return total / weights


CASES: dict[str, Case] = {
    "affine": Case(
        _in_place(bigbia.transform.affine), {"matrix": MATRIX}, _affine, ("uint16", "int32", "float32"), dims=(1, 3)
    ),
    "affine-nearest": Case(
        _in_place(bigbia.transform.affine),
        {"matrix": MATRIX, "order": 0, "mode": "nearest"},
        _affine,
        ("uint8", "float64"),
        dims=(1, 3),
    ),
    "rotate": Case(
        _in_place(bigbia.transform.rotate), {"angle": 33}, _rotate, ("uint8", "float64"), dims=(2, 3), close=1e-5
    ),
    "denoise_tv_chambolle": Case(
        bigbia.restoration.denoise_tv_chambolle,
        {"weight": 20, "max_num_iter": 4},
        _tv,
        ("bool", "uint16", "float32", "float64"),
        dims=(1, 3),
    ),
    "denoise_bilateral": Case(
        bigbia.restoration.denoise_bilateral,
        {"sigma_color": 30, "mode": "symmetric"},
        _bilateral,
        ("bool", "uint16", "float64"),
        close=1e-6,
    ),
    "denoise_bilateral-wrap": Case(
        bigbia.restoration.denoise_bilateral,
        {"win_size": 3, "sigma_color": 9, "mode": "wrap"},
        None,
        ("uint8", "float32"),
    ),
    "denoise_nl_means": Case(
        bigbia.restoration.denoise_nl_means,
        {"patch_size": 3, "patch_distance": 2, "h": 40, "sigma": 5},
        None,
        ("bool", "uint16", "float64"),
        dims=(1, 3),
    ),
    "richardson_lucy": Case(
        _blurred(bigbia.restoration.richardson_lucy),
        {"num_iter": 2},
        _richardson_lucy,
        ("bool", "uint16", "float32"),
        tasks=1.2,
        dims=(1, 3),
        close=1e-5,
    ),
    "richardson_lucy-depth": Case(
        _blurred(bigbia.restoration.richardson_lucy),
        {"num_iter": 3, "depth": 1},
        None,
        ("uint8", "float64"),
        tasks=1.2,
        dims=(1, 3),
    ),
    "downscale_local_mean": Resized(
        bigbia.transform.downscale_local_mean,
        {"factors": 2, "cval": 1},
        lambda a, **kw: transform.downscale_local_mean(a, **kw).astype(linear(a.dtype)),
        ("bool", "uint16", "int32", "float32"),
        factor=2,
        close=1e-6,
    ),
    "resize": Resized(
        _to_seven,
        {"mode": "constant", "cval": 9, "anti_aliasing": False},
        lambda a, anti_aliasing, **kw: _zoom(a, (7,) * a.ndim, None, **kw),
        ("uint16", "float32"),
    ),
    "rescale": Resized(bigbia.transform.rescale, {"scale": 1.5}, _rescale, ("bool", "uint16", "float64")),
    "rescale-nearest": Resized(
        bigbia.transform.rescale, {"scale": 1.6, "order": 0, "mode": "wrap"}, _rescale, ("uint8", "float32")
    ),
    "rescale-smaller": Resized(
        bigbia.transform.rescale, {"scale": 0.4, "mode": "symmetric"}, _rescale, ("uint16", "float64"), close=1e-6
    ),
    "project": Case(bigbia.transform.project, {}, _project, ("bool", "uint16", "float32"), tasks=2.5),
    "project-mean": Case(
        bigbia.transform.project,
        {"method": "mean", "axis": -1},
        _project,
        ("bool", "int32", "float32", "float64"),
        tasks=2.5,
    ),
    "project-sum": Case(bigbia.transform.project, {"method": "sum"}, _project, ("uint8", "float32"), tasks=2.5),
}
