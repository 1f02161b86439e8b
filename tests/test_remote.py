"""Images behind S3 (a server of moto on this machine) and HTTP: equal to the local ones, and what is said without them."""

import functools
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from images import check_source, multiscale, opened, refused, scaled, voxels, write_zarr

from bigbia.errors import BigbiaError, StorageError
from bigbia.hyperstack import unit, voxel_size
from bigbia.io.describing import describe

pytestmark = pytest.mark.filterwarnings("ignore")  # of botocore and aiohttp, about themselves
BUCKET = "bigbia-images"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """What is put onto the servers."""
    folder = tmp_path_factory.mktemp("remote")
    multiscale(folder / "v04.zarr", [scaled(0.3, 0.2, 0.2)], zarr_format=2)
    multiscale(folder / "v05.zarr", [scaled(0.3, 0.2, 0.2)])
    write_zarr(folder / "sharded.zarr", voxels(), shards=(8, 14, 16), config={"write_empty_chunks": True})
    tifffile.imwrite(folder / "plain.tif", voxels())
    tifffile.imwrite(folder / "packed.tif", voxels(), compression="zlib")
    plate = zarr.open_group(folder / "plate.zarr", mode="w")
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}]}}
    plate.create_group("A/1").attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}]}}
    multiscale(folder / "plate.zarr/A/1/0", [scaled(0.3, 0.2, 0.2)])
    return folder


@pytest.fixture(scope="module")
def s3(here):
    """The address of a bucket with the images."""
    server = pytest.importorskip("moto.server", reason="needs moto[server]")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
    patch = pytest.MonkeyPatch()
    for name, value in (
        ("ACCESS_KEY_ID", "testing"),
        ("SECRET_ACCESS_KEY", "testing"),
        ("DEFAULT_REGION", "us-east-1"),
    ):
        patch.setenv(f"AWS_{name}", value)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    patch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    fs = s3fs.S3FileSystem()
    fs.mkdir(BUCKET)
    fs.put(f"{here}/", f"{BUCKET}/", recursive=True)
    yield f"s3://{BUCKET}"
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()
    patch.undo()


@pytest.fixture(scope="module")
def web(here):
    """The address of a web server with the images, which answers for parts of files too."""
    pytest.importorskip("aiohttp", reason="needs aiohttp")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=str(here)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Python's own server, with the ranges that a server of images has."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        path, wanted = Path(self.translate_path(self.path)), self.headers.get("Range")
        if not wanted or not path.is_file():
            return super().do_GET()
        data = path.read_bytes()
        start, _, end = wanted.removeprefix("bytes=").partition("-")
        first = int(start) if start else len(data) - int(end)
        last = min(int(end), len(data) - 1) if start and end else len(data) - 1
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        return self.wfile.write(data[first : last + 1])


@pytest.fixture(params=["s3", "web"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("name", ["v04.zarr", "v05.zarr", "v05.zarr/0", "sharded.zarr", "plain.tif", "packed.tif"])
def test_the_same_as_here(server, name, sources):
    image = opened(f"{server}/{name}")
    assert image.dims == ("z", "y", "x")
    np.testing.assert_array_equal(image.values, voxels())
    if name in ("v05.zarr", "packed.tif"):  # a thousand small requests each
        check_source(sources[0], voxels())
    if name.startswith("v0"):
        assert (voxel_size(image), unit(image)) == ({"z": 0.3, "y": 0.2, "x": 0.2}, "micrometer")


def test_a_plate(server):
    np.testing.assert_array_equal(opened(f"{server}/plate.zarr", well="A01").values, voxels())
    refused(r"is a plate of 1 \(A/1\): open one", f"{server}/plate.zarr")
    assert describe(f"{server}/plate.zarr")["wells"] == ["A1"]


def test_what_info_says(server):
    found = describe(f"{server}/v05.zarr")
    assert (found["axes"], found["dtype"], found["voxel_size"]["z"]) == ("zyx", "uint16", 0.3)
    assert found["missing_chunks"]["total"] == 1
    assert found["missing_chunks"]["absent"] in ((0,) if server.startswith("s3") else (None,))


def test_what_is_not_there(server):
    refused("nowhere.zarr: there is nothing: check the address", f"{server}/nowhere.zarr")
    refused("nowhere.tif: there is nothing: check the address", f"{server}/nowhere.tif")


def test_a_series_in_a_bucket(s3, sources, tmp_path):
    import s3fs

    fs = s3fs.S3FileSystem()
    for t in range(2):
        tifffile.imwrite(tmp_path / "img.tif", voxels()[t])
        fs.put(str(tmp_path / "img.tif"), f"{BUCKET}/scan/img_t{t}.tif")
    image = opened(f"{s3}/scan/img_t{{t}}.tif")
    np.testing.assert_array_equal(image.values, voxels()[:2])
    check_source(sources[0], voxels()[:2])
    refused(r"holds 2 entries \(img_t0.tif, img_t1.tif\), which img_t{t}.tif would match", f"{s3}/scan/x{{t}}.tif")


def test_a_bucket_that_is_not_there(s3):
    with pytest.raises(BigbiaError, match=r"s3://bigbia-no-bucket/x\.zarr"):
        opened("s3://bigbia-no-bucket/x.zarr")


def test_a_server_that_is_not_there():
    pytest.importorskip("aiohttp", reason="needs aiohttp")
    with pytest.raises(StorageError, match=r"http://127\.0\.0\.1:9/x\.zarr.*cannot be read"):
        opened("http://127.0.0.1:9/x.zarr")


def test_a_package_that_is_missing_is_named():
    """In a process of its own, where neither can be imported."""
    code = (
        "import sys\n"
        "sys.modules['s3fs'] = sys.modules['aiohttp'] = None\n"
        "from bigbia.errors import MissingExtraError\n"
        "from bigbia.io.places import Place\n"
        "from bigbia.io.finding import find\n"
        "for url in ('s3://bucket/x.zarr', 'http://host/x.tif'):\n"
        "    try:\n"
        "        find(url, 0, None)\n"
        "    except MissingExtraError as error:\n"
        "        print(error)\n"
    )
    root = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert found.stdout.splitlines() == [
        's3://bucket/x.zarr needs the package s3fs: pip install "bigbia[remote]"',
        'http://host/x.tif needs the package aiohttp: pip install "bigbia[remote]"',
    ], found.stderr
