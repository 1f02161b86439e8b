"""Does napari, with the plugin napari-ome-zarr, show what bigbia writes: scale, units, names, colours, contrast?

    python benchmarks/napari_opens.py write cells.zarr 0.5
    xvfb-run -a PYTHON-WITH-NAPARI benchmarks/napari_opens.py open cells.zarr 0.5 cells.png

The cases are 0.5, 0.4 (an image of two channels with its labels) and time (a series). The first command runs where
bigbia is installed, the second where napari is: they need not share an environment. It ends with 1, and says what is
wrong, where a layer is not what was written or the picture is empty. Seen with napari 0.9.2, napari-ome-zarr 0.10.0
(which reads Zarr itself and needs no ome-zarr), zarr 3.1.6, Python 3.11, under Xvfb.
"""

from __future__ import annotations

import json
import sys

SIZE = (0.5, 0.2, 0.2)
CASES = ("0.5", "0.4", "time")


def write(path: str, case: str) -> None:
    """Blobs of two channels (or of two times) and the labels of the first, 3D, voxels longer along z."""
    import numpy as np
    from scipy import ndimage as ndi

    import bigbia
    from bigbia.hyperstack import hyperstack

    rng = np.random.default_rng(0)
    shape = (24, 160, 200)

    def blobs(count: int) -> np.ndarray:
        image = np.zeros(shape, np.float32)
        image[tuple(rng.integers(4, n - 4, count) for n in shape)] = 1
        image = ndi.gaussian_filter(image, (2, 5, 5))
        return (100 + 3000 * image / image.max() + rng.normal(0, 5, shape)).clip(0).astype(np.uint16)

    several = np.stack([blobs(60), blobs(40)])
    if case == "time":
        image = hyperstack(several, "tzyx", "0.5, 0.2, 0.2 um", time_step=30, time_unit="s")
        of = image
    else:
        image = hyperstack(several, "czyx", "0.5, 0.2, 0.2 um", channels=["DAPI", "GFP"])
        of = image.isel(c=0)
    labels = bigbia.measure.label(of > 800)
    version = "0.4" if case == "0.4" else "0.5"
    bigbia.save(path, image, labels={"nuclei": labels}, version=version, chunks=64, levels=2, overwrite=True)


def show(path: str, case: str, picture: str) -> list[str]:
    """Open it as a user does, look at the layers, take a picture; what is wrong."""
    import napari
    import numpy as np

    viewer = napari.Viewer(ndisplay=2, show=True)
    layers = viewer.open(path, plugin="napari-ome-zarr")
    wrong: list[str] = []

    def expect(what: str, found: object, wanted: object) -> None:
        if found != wanted:
            wrong.append(f"{what}: {found!r}, should be {wanted!r}")

    images = [layer for layer in layers if type(layer).__name__ == "Image"]
    labels = [layer for layer in layers if type(layer).__name__ == "Labels"]
    expect("images", len(images), 1 if case == "time" else 2)
    expect("labels", len(labels), 1)
    for layer in layers:
        scale = tuple(round(float(s), 9) for s in layer.scale)
        expect(f"{layer.name}: scale", scale, ((30.0, *SIZE) if case == "time" else SIZE))
        expect(f"{layer.name}: translation", [float(t) for t in layer.translate], [0.0] * len(scale))
        expect(f"{layer.name}: units", [str(u) for u in layer.units][-3:], ["micrometer"] * 3)
        expect(f"{layer.name}: levels", len(layer.data) if layer.multiscale else 1, 2)
    if case == "time":
        expect("time unit", str(images[0].units[0]), "second")
    else:
        expect("names", [layer.name.split(": ")[-1] for layer in images], ["DAPI", "GFP"])
        expect("colours", [layer.colormap.name for layer in images], ["blue", "green"])
    for layer in images:
        low, high = layer.contrast_limits
        whole = np.asarray(layer.data[-1])
        if not (whole.min() <= low < np.median(whole) < high <= whole.max()):
            wrong.append(f"{layer.name}: contrast {low} to {high} for values from {whole.min()} to {whole.max()}")
    viewer.dims.set_point(viewer.dims.ndim - 3, 6.0)

    def taken() -> np.ndarray:
        for _ in range(20):
            napari.qt.get_qapp().processEvents()
        return np.asarray(viewer.screenshot(canvas_only=True, flash=False))[..., :3]

    plain = taken()
    for layer in labels:  # the plugin opens them hidden
        layer.visible = True
    both = taken()
    from imageio.v3 import imwrite

    imwrite(picture, both)
    lit = (plain.max(axis=-1) > 60).mean()
    if not 0.02 < lit < 0.98 or len(np.unique(plain)) < 30:
        wrong.append(f"the picture of the image is empty: {lit:.1%} of it is lit, {len(np.unique(plain))} values")
    changed = (np.abs(both.astype(int) - plain).max(axis=-1) > 20).mean()
    if changed < 0.01:
        wrong.append(f"the labels do not show: {changed:.2%} of the picture changes with them")
    told = [
        {"name": layer.name, "scale": list(map(float, layer.scale)), "units": list(map(str, layer.units)),
         "contrast": list(map(float, getattr(layer, "contrast_limits", []))),
         "colormap": str(getattr(layer.colormap, "name", ""))}
        for layer in layers
    ]  # fmt: skip
    print(
        json.dumps(
            {"case": case, "layers": told, "lit": round(lit, 3), "changed by labels": round(changed, 3)}, indent=1
        )
    )
    viewer.close()
    return wrong


def main(arguments: list[str]) -> int:
    what, path, case, *more = [*arguments, "", "", ""][:4] if len(arguments) < 4 else arguments
    if what not in ("write", "open") or case not in CASES:
        print(__doc__)
        return 2
    if what == "write":
        write(path, case)
        return 0
    wrong = show(path, case, more[0] or "napari.png")
    for one in wrong:
        print(f"wrong: {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
