"""scikit-image's own tests of what we replace, every call cut into blocks; where its test files are at hand.

BIGBIA_SKIMAGE_TESTS names the folder that holds `measure/tests`, `morphology/tests` and so on: that of an unpacked wheel
of scikit-image 0.25 (0.26 has none).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# What each file is allowed to fail: calls that mean something else here, all in docs/differences.md.
OTHER = {
    "measure/tests/test_ccomp.py": {"test_nd"},  # expects four axes to be refused
    "measure/tests/test_label.py": set(),
    "segmentation/tests/test_clear_border.py": {  # out=
        "test_clear_border_non_binary_inplace",
        "test_clear_border_non_binary_inplace_3d",
        "test_clear_border_non_binary_out",
        "test_clear_border_non_binary_out_3d",
    },
    "segmentation/tests/test_join.py": {"test_join_segmentations"},  # a table, not two maps
    "segmentation/tests/test_boundaries.py": {"test_boundaries_constant_image"},  # mode="subpixel"
    "segmentation/tests/test_watershed.py": {
        "test_watershed12",  # lines, where values are tied
        "test_compact_watershed",
        "test_numeric_seed_watershed",
        "test_connectivity",  # these three: compactness
        "test_watershed_output_dtype",  # no markers at all
    },
    "morphology/tests/test_gray.py": {
        "test_unsupported_mode",  # refused in other words
        "test_discontiguous_out_array",  # out=
        "test_deprecated_shift",  # shift_x=, shift_y=
    },
    "restoration/tests/test_rolling_ball.py": {"test_threads"},  # num_threads=
    "filters/tests/test_ridges.py": {  # float32, compared to 1e-7
        "test_2d_cropped_camera_image",
        "test_3d_cropped_camera_image",
    },
    "filters/tests/test_edges.py": {
        "test_int_rescaling",
        *(
            f"test_{name}_{what}" for name in ("sobel", "scharr", "prewitt", "laplace") for what in ("zeros", "mask")
        ),  # mask=
    },
}
CHUNKS = {"test_label.py": 30, "test_watershed.py": 100, "test_gray.py": 20, "test_ridges.py": 100, "test_edges.py": 20}


def folder() -> Path:
    spec = find_spec("skimage")
    assert spec is not None
    return Path(os.environ.get("BIGBIA_SKIMAGE_TESTS", Path(spec.origin or "").parent))


@pytest.mark.parametrize("file", OTHER)
def test_scikit_image_s_own_tests(file, tmp_path):
    path = folder() / file
    if not path.exists():
        pytest.skip("this scikit-image comes without its tests: set BIGBIA_SKIMAGE_TESTS to those of a wheel of 0.25")
    chunk = CHUNKS.get(path.name, 2)  # large images
    words = ["-p", "chunked_skimage", "--import-mode=importlib", f"--chunk={chunk}", "-p", "no:cacheprovider", "-rA"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "-c", os.devnull, "--rootdir", str(path.parent), str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])},
        cwd=tmp_path,
    )
    passed = re.findall(r"^PASSED .*::(\w+)", run.stdout, re.MULTILINE)
    failed = re.findall(r"^(?:FAILED|ERROR) .*::(\w+)", run.stdout, re.MULTILINE)
    assert passed, run.stdout
    assert set(failed) <= OTHER[file], run.stdout
