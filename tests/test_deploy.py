"""What is under deploy/: the main job on a scheduler and workers, as the SLURM script and compose.yaml start them.

Everything runs on loopback. Docker is not needed: the commands and the environment of compose.yaml are run as
processes. The SLURM script runs with a stand-in for srun, and for real where there is SLURM.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

import bigbia
from bigbia.run.pipeline import Pipeline

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SBATCH = DEPLOY / "slurm" / "main_job.sbatch"
PIPELINE = DEPLOY / "pipeline.yaml"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


# ---- as text ---------------------------------------------------------------------------------------------------------


def test_pipeline_is_a_pipeline():
    assert list(Pipeline.load(PIPELINE).save) == ["labels", "tables"]


@pytest.mark.parametrize("script", [SBATCH, ROOT / ".ci" / "run"], ids=lambda p: p.name)
def test_scripts_are_shell(script):
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", "--shell=bash", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text


def test_slurm_reads_all_directives():
    """sbatch stops looking for #SBATCH at the first command."""
    lines = SBATCH.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert directives
    assert max(directives) < first


def test_slurm_listens_on_loopback_or_the_named_interface_with_tls():
    text = SBATCH.read_text()
    starts = re.findall(r"-m dask (scheduler|worker) (.*?)&\n", text, re.DOTALL)
    assert [name for name, _ in starts] == ["scheduler", "worker"]
    for _, options in starts:
        assert '"${listen[@]}"' in options
        assert "--protocol tls" in options
        assert "--no-dashboard --dashboard-address 127.0.0.1:0" in options
    assert re.findall(r"listen=\((.*)\)", text) == ['--interface "$BIGBIA_INTERFACE"', "--host 127.0.0.1"]
    assert "0.0.0.0" not in text
    assert "REQUIRE_ENCRYPTION=True" in text


def test_slurm_refuses_several_nodes_without_an_interface(tmp_path):
    done = run_script(tmp_path, "a", "b", "c", SLURM_JOB_NUM_NODES="2")
    assert done.returncode == 2
    assert "BIGBIA_INTERFACE" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_slurm_says_how_it_is_called(tmp_path):
    done = run_script(tmp_path, "only-one")
    assert done.returncode == 2
    assert "usage: sbatch main_job.sbatch PIPELINE INPUT OUTPUT" in done.stdout


def test_compose_publishes_on_loopback_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(isinstance(port, str) and re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert not any(service.get("network_mode") == "host" for service in SERVICES.values())


def test_compose_services_are_one_image_without_rights():
    assert set(SERVICES) == {"key", "scheduler", "worker", "job"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    for word in ("image", "build", "user", "volumes"):
        assert len({yaml.dump(service[word]) for service in SERVICES.values()}) == 1
    for service in SERVICES.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert "no-new-privileges:true" in service["security_opt"]
        assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service)


def test_compose_image_is_made_of_files_that_are_there():
    recipe = SERVICES["job"]["build"]["dockerfile_inline"]
    assert SERVICES["job"]["build"]["context"] == ".."
    for line in re.findall(r"^COPY (.*)$", recipe, re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)


def test_compose_waits_in_an_order_that_ends():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{name} waits for the health of {other}, which has no check"


def test_every_dask_process_must_encrypt():
    dasks = [s for s in SERVICES.values() if "environment" in s]
    assert len(dasks) == 3
    for service in dasks:
        assert service["environment"]["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
        words = " ".join(map(str, service["command"]))
        assert "tls" in words
        assert "tcp://" not in words


# ---- as processes ----------------------------------------------------------------------------------------------------


def environment(**more: str) -> dict[str, str]:
    """Ours, without settings of bigbia, Dask or SLURM, and with this bigbia."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("BIGBIA_", "DASK_", "SLURM_", "SBATCH_"))}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**own, "PYTHONPATH": os.pathsep.join(paths), "BIGBIA_PYTHON": sys.executable, **more}


def run_script(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(SBATCH), *arguments],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def volume(tmp_path_factory) -> Path:
    """A small synthetic volume in a few blocks, and the main job's result on this process's threads beside it."""
    folder = tmp_path_factory.mktemp("main-job")
    bigbia_command(["synth", "volume.zarr", "--shape", "64,80,72", "--block", "40", "--quiet"], folder, environment())
    bigbia_command(["run", str(PIPELINE), "volume.zarr", "-o", "threads.zarr", "--quiet"], folder, environment())
    return folder / "volume.zarr"


def bigbia_command(arguments: list[str], folder: Path, env: dict[str, str]) -> str:
    command = [sys.executable, "-m", "bigbia.cli", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_same_result(result: Path, expected: Path) -> None:
    labels = [np.asarray(bigbia.open(f"{p}/labels/nuclei")) for p in (result, expected)]
    assert labels[1].max() > 3
    np.testing.assert_array_equal(*labels)
    tables = [pd.read_parquet(p / "tables" / "nuclei.parquet") for p in (result, expected)]
    assert len(tables[1]) == labels[1].max()
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def listening(process: subprocess.Popen) -> set[str]:
    """Addresses that a process and its children listen on."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    return {c.laddr.ip for p in family for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


@contextmanager
def started(command: list[str], folder: Path, env: dict[str, str], log: Path):
    with open(log, "w") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Stack:
    """The services of compose.yaml as processes: /data is a folder, every host is 127.0.0.1, every port a free one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.env = environment(**{k: self.here(v) for k, v in SERVICES["worker"]["environment"].items()})

    def here(self, word: str) -> str:
        word = word.replace("/data", str(self.folder)).replace("scheduler:8786", f"127.0.0.1:{self.port}")
        word = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", word)
        known = {"8786": str(self.port), ":8787": "127.0.0.1:0", "127.0.0.1:8789": "127.0.0.1:0", "/tmp/numba": ""}
        return known.get(word, word)

    def command(self, service: str) -> list[str]:
        first, *words = [self.here(str(w)) for w in SERVICES[service]["command"]]
        words = ["127.0.0.1" if before == "--host" else w for before, w in zip(["", *words], words)]
        if first == "dask":
            words += [] if "127.0.0.1" in words else ["--host", "127.0.0.1"]
            return [sys.executable, "-m", "dask", *words]
        return [first, *words]

    def make_key(self) -> None:
        subprocess.run(self.command("key"), check=True, capture_output=True, cwd=self.folder)
        assert (self.folder / ".bigbia" / "key.pem").stat().st_mode & 0o077 == 0

    @property
    def address(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    def client(self, code: str, **env: str) -> subprocess.CompletedProcess:
        text = f"from distributed import Client\n{code}"
        command = [sys.executable, "-c", text, self.address]
        return subprocess.run(command, env={**self.env, **env}, capture_output=True, text=True, timeout=120)


@needs_openssl
@pytest.mark.cluster
def test_main_job_on_a_scheduler_and_two_workers(volume, tmp_path):
    shutil.copytree(volume, tmp_path / "input.zarr")
    shutil.copy(PIPELINE, tmp_path / "pipeline.yaml")
    stack = Stack(tmp_path)
    stack.make_key()
    with ExitStack() as processes:

        def start(service: str, name: str) -> subprocess.Popen:
            command = stack.command(service)
            return processes.enter_context(started(command, tmp_path, stack.env, tmp_path / f"{name}.log"))

        running = [start("scheduler", "scheduler"), start("worker", "worker-0"), start("worker", "worker-1")]
        ready = stack.client("import sys; Client(sys.argv[1], timeout='60s').wait_for_workers(2, timeout=60)")
        logs = "\n".join(p.read_text() for p in tmp_path.glob("*.log"))
        assert ready.returncode == 0, ready.stderr + logs

        for process in running:
            assert listening(process) == {"127.0.0.1"}

        # Another key, or none, is not let in.
        attempt = "import sys; Client(sys.argv[1], timeout='3s').run(print)"
        other = tmp_path / "other"
        other.mkdir()
        Stack(other).make_key()
        stolen = {
            k: v.replace(str(tmp_path / ".bigbia"), str(other / ".bigbia")) for k, v in stack.env.items() if "TLS" in k
        }
        assert stack.client(attempt, **stolen).returncode != 0
        assert stack.client(attempt, **{k: "" for k in stack.env if "TLS" in k}).returncode != 0
        assert stack.client(attempt.replace("sys.argv[1]", "sys.argv[1].replace('tls', 'tcp')")).returncode != 0

        words = [stack.here(w) for w in SERVICES["job"]["command"]]
        said = bigbia_command(words, tmp_path, stack.env)
    assert "output.zarr: written" in said
    assert_same_result(tmp_path / "output.zarr", volume.with_name("threads.zarr"))
    assert not list((tmp_path / ".bigbia" / "scratch").rglob("done")), "scratch is left"


SRUN = """\
#!/usr/bin/env bash
# In place of srun, on one machine: --ntasks times the command, ended by SIGTERM.
n=1
while [[ ${1:-} == --* ]]; do
    [[ $1 == --ntasks=* ]] && n=${1#*=}
    shift
done
pids=()
trap 'kill "${pids[@]}"' TERM
for ((i = 0; i < n; i++)); do
    "$@" &
    pids+=($!)
done
wait || wait
"""


@pytest.fixture
def stand_in(tmp_path) -> dict[str, str]:
    """The environment of a job of two tasks on one node, with a stand-in for srun."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    (tmp_path / "jobs").mkdir()
    return {
        "PATH": f"{srun.parent}{os.pathsep}{os.environ['PATH']}",
        "BIGBIA_JOBS": str(tmp_path / "jobs"),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_MEM_PER_CPU": "1000",
    }


@needs_openssl
@pytest.mark.cluster
def test_slurm_script_without_slurm(volume, tmp_path, stand_in):
    done = run_script(tmp_path, str(PIPELINE), str(volume), "result.zarr", "--set", "smooth.sigma=2", **stand_in)
    assert done.returncode == 0, done.stdout
    assert "result.zarr: written" in done.stdout
    # A worker that is stopped while it tells the scheduler that it lives logs a traceback of Dask's own.
    assert f'File "{Path(bigbia.__file__).parent}' not in done.stdout
    assert_same_result(tmp_path / "result.zarr", volume.with_name("threads.zarr"))
    assert list((tmp_path / "jobs").iterdir()) == [], "the key and scratch are left"


@needs_openssl
@pytest.mark.cluster
def test_slurm_script_ends_with_the_code_of_the_run(volume, tmp_path, stand_in):
    (tmp_path / "result.zarr").mkdir()
    (tmp_path / "result.zarr" / "zarr.json").write_text("{}")
    done = run_script(tmp_path, str(PIPELINE), str(volume), "result.zarr", **stand_in)
    assert done.returncode == 4, done.stdout
    assert "result.zarr: exists" in done.stdout
    assert list((tmp_path / "jobs").iterdir()) == []
    assert not [p for p in psutil.process_iter() if str(tmp_path) in " ".join(cmdline(p))]


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def slurm() -> None:
    """A SLURM to submit to; without one the test is skipped."""
    if why := no_slurm():
        pytest.skip(why)


def no_slurm() -> str:
    if shutil.which("sbatch") is None:
        return "SLURM is not installed"
    try:
        done = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, timeout=15)
    except subprocess.TimeoutExpired:
        return "SLURM does not answer"
    return "" if re.search("idle|mix", done.stdout) else f"SLURM has no free node: {done.stdout}{done.stderr}".strip()


@needs_openssl
@pytest.mark.cluster
def test_slurm_script_on_slurm(slurm, volume):
    folder = volume.parent  # where all nodes see it, on a single machine
    size = ["--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1", "--mem-per-cpu=900M", "--time=10"]
    command = ["sbatch", "--parsable", *size, f"--output={folder}/slurm.log", str(SBATCH)]
    words = [str(PIPELINE), str(volume), str(folder / "slurm.zarr"), "--overwrite"]
    done = subprocess.run([*command, *words], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip().split(";")[0]
    try:
        state = ""
        for _ in range(300):
            shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
            state = re.search(r"JobState=(\w+)", shown)[1]
            if state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
                break
            time.sleep(0.5)
    finally:
        subprocess.run(["scancel", job])
    log = folder / "slurm.log"
    assert state == "COMPLETED", f"{shown}\n{log.read_text() if log.exists() else 'no log'}"
    assert_same_result(folder / "slurm.zarr", volume.with_name("threads.zarr"))
    assert not list(folder.glob("bigbia-job-*"))
