"""Who may be talked to, and that nothing bigbia starts listens to the network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bigbia import config
from bigbia.errors import ParameterError
from bigbia.run import network
from bigbia.run.network import check_address, is_loopback, listeners

linux = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc/net/tcp")


@pytest.fixture
def names(monkeypatch):
    """A small world of host names."""
    known = {
        "localhost": ["127.0.0.1", "::1"],
        "both": ["127.0.0.1", "10.1.2.3"],
        "node7": ["10.1.2.3"],
        "node6": ["fe80::1%eth0"],
    }

    def getaddrinfo(host, *_, **__):
        try:
            numeric = [str(network.ipaddress.ip_address(host))]
        except ValueError:
            numeric = known.get(host)
        if numeric is None:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in numeric]

    monkeypatch.setattr(network.socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:8786",
        "tcp://127.8.9.10:8786",
        "127.0.0.1:8786",
        "tcp://localhost:8786",
        "tcp://[::1]:8786",
        "tcp://[::ffff:127.0.0.1]:8786",
        "ws://localhost:80",
        "tls://node7:8786",
        "wss://node7:8786",
        "inproc://10.1.2.3/1/2",
    ],
)
def test_allowed(names, address):
    check_address(address, insecure=False)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://10.1.2.3:8786", "10.1.2.3 is not this machine, and tcp:// has no TLS"),
        ("tcp://node7:8786", r"node7 \(10.1.2.3\) is not this machine"),
        ("node7:8786", r"node7 \(10.1.2.3\) is not this machine"),
        ("tcp://both:8786", r"both \(10.1.2.3, 127.0.0.1\) is not this machine"),
        ("tcp://node6:8786", "is not this machine"),
        ("tcp://0.0.0.0:8786", "0.0.0.0 is not this machine"),
        ("tcp://[::]:8786", ":: is not this machine"),
        ("tcp://[2001:db8::1]:8786", "2001:db8::1 is not this machine"),
        ("ws://node7:80", "ws:// has no TLS"),
        ("ucx://node7:80", "ucx:// has no TLS"),
    ],
)
def test_refused_unless_it_is_meant(names, address, said):
    with pytest.raises(ParameterError, match=said) as caught:
        check_address(address)
    message = str(caught.value)
    assert repr(address) in message
    for word in ("anyone who can reach it can run code", "tls://", "ssh tunnel", "--insecure", "insecure=True"):
        assert word in message
    assert "\n" not in message
    check_address(address, insecure=True)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://node7:8786", "http:// is no way to a scheduler: write one of tls://"),
        ("tcp://", "names no host"),
        ("", "names no host"),
        ("tcp://[::1:8786", "names no host"),
        ("tcp://127.0.0.1@node7:8786", "names no host"),
        ("tcp://node7/../127.0.0.1:8786", "names no host"),
        ("tcp://127.0.0.1\nnode7:8786", "names no host"),
    ],
)
@pytest.mark.parametrize("insecure", [False, True])
def test_no_address_at_all(names, address, said, insecure):
    with pytest.raises(ParameterError, match=said) as caught:
        check_address(address, insecure)
    assert "\n" not in str(caught.value)


def test_a_host_that_nobody_knows(names):
    with pytest.raises(ParameterError, match=r"there is no host 'nde7' \(Name or service not known\): check its name"):
        check_address("tcp://nde7:8786")


def test_the_real_resolver():
    check_address("tcp://localhost:8786")
    assert is_loopback("127.1.2.3")
    assert not is_loopback("192.168.0.1")
    assert not is_loopback("::ffff:10.0.0.1")


@pytest.mark.parametrize(
    ("text", "meant"), [("false", False), ("0", False), ("no", False), ("True", True), ("1", True)]
)
def test_a_truth_of_the_environment(monkeypatch, text, meant):
    """`BIGBIA_INSECURE=false` is not a yes."""
    monkeypatch.setenv("BIGBIA_INSECURE", text)
    assert config.truth("insecure") is meant
    monkeypatch.setenv("BIGBIA_INSECURE", "never mind")
    with pytest.raises(ParameterError, match=r"bigbia\.insecure='never mind': must be true or false"):
        config.truth("insecure")


@linux
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")])
def test_a_listener_is_seen(family, address):
    with socket.socket(family) as server:
        try:
            server.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        before = listeners([os.getpid()])
        server.listen()
        (found,) = set(listeners([os.getpid()])) - set(before)
        assert (found.pid, found.address, found.port) == (os.getpid(), address, server.getsockname()[1])
    assert found not in listeners([os.getpid()])


SAVE = """
import json, sys, threading, time
import numpy as np
import psutil
import bigbia
from bigbia.run.network import listeners

def watch():
    while not done.is_set():
        try:
            tree = [me.pid, *(child.pid for child in me.children(recursive=True))]
        except psutil.Error:
            continue
        seen.update((l.address, l.port) for l in listeners(tree))
        sizes.add(len(tree))
        time.sleep(0.02)

if __name__ == "__main__":
    me, seen, sizes, done = psutil.Process(), set(), set(), threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    image = np.random.default_rng(0).integers(0, 99, (32, 64, 64)).astype("u2")
    import dask
    with dask.config.set({"bigbia.threads": 2, "bigbia.scratch": sys.argv[2] + "/scratch"}):
        smooth = bigbia.filters.gaussian(bigbia.hyperstack.hyperstack(image, "zyx").chunk(16), 1)
        bigbia.save(sys.argv[2] + "/out.zarr", smooth, scheduler=sys.argv[1])
    done.set()
    watcher.join()
    print(json.dumps([sorted(seen), max(sizes)]))
"""


@linux
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_nothing_listens_to_the_network(tmp_path, scheduler):
    (tmp_path / "save.py").write_text(SAVE)
    environment = os.environ | {"PYTHONPATH": str(Path(network.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "save.py", scheduler, str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    seen, processes = json.loads(done.stdout.splitlines()[-1])
    assert (tmp_path / "out.zarr").is_dir()
    if scheduler == "threads":
        assert seen == []
    else:
        assert processes >= 3
        assert len(seen) >= 3  # the scheduler and two workers: what is not seen proves nothing
        assert [address for address, _ in seen if not is_loopback(address)] == []


def certificate(folder: Path, name: str) -> dict[str, str]:
    """A self-made certificate that is its own authority, and its key."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "1", "-subj", f"/CN={name}"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return {"tls_ca_file": str(cert), "cert": str(cert), "key": str(key)}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificates with openssl")
def test_a_certificate_is_the_permission(tmp_path):
    from distributed import Client, LocalCluster
    from distributed.security import Security

    def security(name):
        made = certificate(tmp_path, name)
        roles = {
            f"tls_{role}_{part}": made[part] for role in ("client", "scheduler", "worker") for part in ("cert", "key")
        }
        return Security(require_encryption=True, tls_ca_file=made["tls_ca_file"], **roles)

    ours, foreign = security("ours"), security("foreign")
    words = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with LocalCluster(protocol="tls", host="127.0.0.1", security=ours, silence_logs=60, **words) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://127.0.0.1")
        check_address(address)
        with Client(address, security=ours, set_as_default=False) as client:
            assert client.submit(int, "3").result(timeout=30) == 3
        with pytest.raises(OSError):
            Client(address, security=foreign, timeout="3s", set_as_default=False)
        with pytest.raises((OSError, TypeError)):
            Client(address.replace("tls://", "tcp://"), timeout="3s", set_as_default=False)
