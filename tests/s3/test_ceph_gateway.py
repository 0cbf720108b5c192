"""The gateway that the other tests stand on: it starts, and nothing of it stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ceph_gateway import CephGateway

pytestmark = pytest.mark.s3
SCRIPT = str(Path(__file__).parent / "ceph_gateway.py")


def _processes_of(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:  # ended since the folder was read
            continue
        if f"{folder}/ceph.conf".encode() in command:
            found.append(command.decode())
    return found


def _script(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)


def test_the_script_starts_and_stops_without_leftovers(gateway: CephGateway, tmp_path: Path) -> None:
    folder, env_file = tmp_path / "ceph", tmp_path / "env"
    try:
        started = _script("start", "--folder", folder, "--bucket", "demo", "--env-file", env_file)
        assert started.returncode == 0, started.stderr
        assert "export AWS_ENDPOINT_URL=http://127.0.0.1:" in started.stdout
        assert "export HYBRID_BATCH_S3_URL=s3://demo\n" in started.stdout
        assert env_file.read_text() == started.stdout
        assert env_file.stat().st_mode & 0o077 == 0
        assert len(_processes_of(folder)) == 3
        assert "runs already" in _script("start", "--folder", folder).stderr
    finally:
        assert _script("stop", "--folder", folder).returncode == 0
    assert _processes_of(folder) == []
    assert not folder.exists()


def test_a_killed_owner_takes_its_gateway_along(gateway: CephGateway, tmp_path: Path) -> None:
    folder = tmp_path / "ceph"
    script = (
        "import os, pathlib, signal, sys\n"
        "from ceph_gateway import CephGateway\n"
        "CephGateway(pathlib.Path(sys.argv[1])).start()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = {**os.environ, "PYTHONPATH": str(Path(SCRIPT).parent)}
    subprocess.run([sys.executable, "-c", script, str(folder)], env=path, check=False, timeout=180)
    for _ in range(600):
        if not _processes_of(folder):
            return
        subprocess.run(["sleep", "0.05"], check=True)
    pytest.fail(f"still there: {_processes_of(folder)}")
