"""Every image and every store of the real data: opened, or refused with the reason it deserves."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from images import opened

from bigbia.errors import InputError, ParameterError
from bigbia.hyperstack import channels, voxel_size

NGIO = {
    "c1yx": "czyx", "cyx": "cyx", "czyx": "czyx", "tcyx": "tcyx", "tczyx": "tczyx", "tyx": "tyx", "tzyx": "tzyx",
    "yx": "yx", "zyx": "zyx",
}  # fmt: skip
EXAMPLES, VIV = "ome_zarr_examples", "viv_fixtures"
CELLS = {
    "cells3d_nuclei/nuclei.tif": "zyx", "cells3d_nuclei/nuclei_label.tif": "zyx",
    "stardist_dsb2018/img2d.tif": "yx", "stardist_dsb2018/mask2d.tif": "yx",
    "stardist_3d/img3d.tif": "zyx", "stardist_3d/mask3d.tif": "zyx",
    "gala_fib_em/train-image.tif": "zyx", "gala_fib_em/train-p1.tif": "zyx",
    "gala_fib_em/train-gt.tif": "zyx", "gala_fib_em/train-ws.tif": "zyx",
    "plantseg_ovule/raw.tif": "zyx", "plantseg_ovule/label.tif": "zyx",
    "bbbc022_multichannel/IXMtest_A02_s9.tif": "cyx", "membrane_timelapse/membrane_2d_timelapse.tif": "zyx",
    "maize_2d/maize_clsm.tif": "yx", "maize_2d/maize_clsm_labels.tif": "yx",
    **{f"bbbc007/{kind}/A9_p5d_(cropped_{n}).tif": "yx" for kind in ("images", "masks") for n in range(1, 5)},
    f"{VIV}/multi-channel.ome.tif": "cyx", **{f"{VIV}/multi-tiff/Channel_{n}.tif": "yx" for n in range(3)},
}  # fmt: skip

# What opens -> its axes, and the words it is opened with.
OPENS: dict[str, tuple[str, dict]] = {
    **{path: (axes, {}) for path, axes in CELLS.items()},
    **{f"ngio_ome_zarr/{v}/images/test_image_{n}.zarr": (a, {}) for v in ("v04", "v05") for n, a in NGIO.items()},
    **{
        f"ngio_ome_zarr/{v}/images/test_image_{n}.zarr/labels/label": (a.replace("c", ""), {})
        for v in ("v04", "v05")
        for n, a in NGIO.items()
    },
    **{f"{EXAMPLES}/valid/image-0{n}.zarr": ("yx" if n < 3 else "zyx", {}) for n in range(1, 5)},
    f"{EXAMPLES}/invalid/image-04.zarr": ("zyx", {}),
    f"{EXAMPLES}/warning/image-01.zarr": ("yx", {}),
    **{f"{EXAMPLES}/valid/plate-01.zarr/{r}/{c}/0": ("yx", {}) for r in "AB" for c in "12"},
    **{f"{EXAMPLES}/valid/plate-01.zarr/{r}/{c}": ("yx", {}) for r in "AB" for c in "12"},
    f"{EXAMPLES}/valid/plate-01.zarr": ("yx", {"well": "B02"}),
    f"{VIV}/ome-zarr/blobs_image_v04.ome.zarr": ("cyx", {}),
    f"{VIV}/ome-zarr/blobs_image_v05.ome.zarr": ("cyx", {}),
    f"{VIV}/bioformats-zarr/data.zarr": ("tczyx", {}),
    f"{VIV}/bioformats-zarr/data.zarr/0": ("tczyx", {}),
    f"{VIV}/multi-tiff/Channel_{{c}}.tif": ("cyx", {}),
}
# What is refused -> why, and the words it is opened with.
REFUSED: list[tuple[str, str, dict]] = [
    (f"{EXAMPLES}/invalid/image-01.zarr", "is a Zarr group without an image .* it holds nothing", {}),
    (f"{EXAMPLES}/invalid/image-02.zarr", "is a Zarr group without an image .* it holds labels", {}),
    (f"{EXAMPLES}/invalid/image-03.zarr", "level 0 should be at '0', and no array is there", {}),
    (f"{EXAMPLES}/invalid/image-04.zarr", r"shape \(32, 32\) has 2 axes, the image's metadata name 3", {"level": 1}),
    (f"{EXAMPLES}/valid/image-01.zarr/labels", "is a list of no label images; and nothing lies in it", {}),
    (f"{EXAMPLES}/valid/plate-01.zarr", r"is a plate of 4 \(A/1, A/2, B/1, B/2\): open one, as in .*A/1/0", {}),
    (f"{EXAMPLES}/valid/plate-01.zarr", r"well='C1': .* no such well; it has 4", {"well": "C1"}),
    (f"{EXAMPLES}/valid/plate-01.zarr", r"field='9': .* has 1 field\(s\) \(0\)", {"well": "A1", "field": "9"}),
    (f"{EXAMPLES}/valid/plate-01.zarr/A", "is a Zarr group without an image .* it holds 1, 2", {}),
    (f"{VIV}/multi-tiff", r"3 are TIFF files: name the series by .*Channel_{c}.tif", {}),
    (f"{VIV}/ome-zarr/blobs_image_v04.ome.zarr.json", "is not an image: a file that begins with", {}),
    (f"{VIV}/ome-zarr/blobs_image_v05.ome.zarr.json", "is not an image: a file that begins with", {}),
    (f"{VIV}/bioformats-zarr/METADATA.ome.xml", "is not an image: a file that begins with b'<[?]xml", {}),
    ("ngio_ome_zarr/v04/meta/base_ome_zarr_image_meta.json", "is not an image: a file that begins with", {}),
    ("ngio_ome_zarr/v04/images/test_image_zyx.zarr/tables", "is a Zarr group without an image .* well_ROI_table", {}),
    ("pollen/Misc_pollen.npy.gz", "a gzip file: unpack it", {}),
    ("cells3d_nuclei/nuclei_surface.npz", "a zip file: unpack it", {}),
    ("bbbc007/images", r"of which 4 are TIFF files", {}),
    ("MANIFEST.tsv", "is not an image: a file that begins with b'path", {}),
    ("README.md", "is not an image: a file that begins with b'# Real", {}),
    ("stardist_3d", "a folder without Zarr metadata", {}),
]


@pytest.mark.parametrize("path", OPENS)
def test_what_opens(data, path):
    axes, words = OPENS[path]
    image = opened(data / path, **words)
    assert "".join(image.dims) == axes
    if path.endswith((".tif", ".tiff")) and "{" not in path:
        np.testing.assert_array_equal(image.values, tifffile.imread(data / path))
    elif "{" in path:
        every = [tifffile.imread(data / path.replace("{c}", str(c))) for c in range(3)]
        np.testing.assert_array_equal(image.values, np.stack(every))
    else:
        here = Path(image.encoding["source"])
        np.testing.assert_array_equal(image.values, zarr.open_array(here / "0", mode="r")[...])
        assert voxel_size(image) is not None or "bioformats" in path


@pytest.mark.parametrize(("path", "says", "words"), REFUSED, ids=[f"{p} {w}".strip("{} ") for p, _, w in REFUSED])
def test_what_is_refused(data, path, says, words):
    with pytest.raises((InputError, ParameterError), match=says) as caught:
        opened(data / path, **words)
    assert str(data / path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_left_out(data):
    """Every TIFF file and every group with an image is in the lists above."""
    missed = [p for p in data.rglob("*.tif") if str(p.relative_to(data)) not in OPENS]
    for folder, _, files in os.walk(data):
        documents = [Path(folder) / name for name in (".zattrs", "zarr.json") if name in files]
        said = "".join(document.read_text() for document in documents)
        if '"multiscales"' in said or '"plate"' in said or '"well"' in said:
            name = str(Path(folder).relative_to(data))
            if name not in OPENS and name not in [path for path, *_ in REFUSED]:
                missed.append(Path(folder))
    assert missed == []


def test_names_of_channels(data):
    image = opened(data / "ngio_ome_zarr/v04/images/test_image_czyx.zarr")
    assert channels(image) == ("channel_0", "channel_1")
    assert image.encoding["display"]["channel_0"] == {"color": "00FFFF", "window": (0.0, 65535.0)}
