from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import dask
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", deadline=None, suppress_health_check=list(HealthCheck), max_examples=10, print_blob=True
)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def memory_folder() -> str | None:
    """A file system in memory, where there is one with room: blocks of one voxel make very many small files."""
    folder = Path("/dev/shm")
    roomy = folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > 2 << 30
    return str(folder) if roomy else None


@pytest.fixture(autouse=True)
def scratch():
    """Each test has a scratch folder of its own, so that none finds what another left."""
    with (
        tempfile.TemporaryDirectory(prefix="bigbia-test-", dir=memory_folder(), ignore_cleanup_errors=True) as folder,
        dask.config.set({"bigbia.scratch": folder}),
    ):
        yield


@pytest.fixture(params=["one partition", "many partitions"])
def partitions(request, monkeypatch):
    """Tables in one partition, and in as many as there can be."""
    from bigbia.graph import group

    if request.param == "many partitions":
        monkeypatch.setattr(group, "VOXELS_A_PARTITION", 37)
        monkeypatch.setattr(group, "GATHER", 3)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real images; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("BIGBIA_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real images are not here: set BIGBIA_TEST_DATA to their folder")
    return folder


@pytest.fixture
def sources(monkeypatch):
    """The sources that `open` made, in order."""
    from bigbia.graph import dask

    seen = []
    original = dask.from_source

    def from_source(source, block="auto"):
        seen.append(source)
        return original(source, block)

    monkeypatch.setattr(dask, "from_source", from_source)
    return seen
