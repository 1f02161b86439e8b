from __future__ import annotations

import os
from pathlib import Path

import dask
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", deadline=None, suppress_health_check=list(HealthCheck), max_examples=25, print_blob=True
)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory):
    """Each test has a scratch folder of its own, so that none finds what another left."""
    with dask.config.set({"bigbia.scratch": str(tmp_path_factory.mktemp("scratch"))}):
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real images; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("BIGBIA_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real images are not here: set BIGBIA_TEST_DATA to their folder")
    return folder
