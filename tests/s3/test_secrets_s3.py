"""Whatever a run on S3 writes or shows, the secrets that it uses are not in it."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from ceph_gateway import CephGateway

from tests.support.driver import Driver, wait
from tests.support.jobs import job_document, questions, save, write_parquet
from tests.support.tiny_router import make_tiny_router

KEY_VARIABLE = "KEY_OF_THE_ENDPOINT"
RUN_S, LOOK_S = 300.0, 0.1


class Watch:
    """Reads, again and again, all command lines of this machine and all files below ``folder``.

    ``keys`` are those that engines keep for themselves, in files that no other user may read.
    """

    def __init__(self, folder: Path) -> None:
        self.commands: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.keys: set[str] = set()
        self._folder, self._seen, self._end = folder, {}, threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Watch:
        self._watching = self._pool.submit(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._pool.shutdown()
        self._watching.result()  # raises what ended the watch before its time
        self._look()

    def _watch(self) -> None:
        while not self._end.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                self.commands.add(" ".join(process.cmdline()))
        for folder, _, names in os.walk(self._folder):  # passes over folders that Spark removes meanwhile
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self._read(Path(folder, name))

    def _read(self, path: Path) -> None:
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
        if self._seen.get(path) == stamp:
            return
        self._seen[path] = stamp
        content = path.read_bytes()
        if path.name.partition(".")[0] == "key" and path.parent.name.startswith("executor-"):
            assert status.st_mode & 0o077 == 0
            self.keys.update([content.decode()] if content else [])
        else:
            self.files[f"{path} {stamp}"] = content


@contextmanager
def endpoint(key: str) -> Iterator[str]:
    """Somebody's server, which wants ``key`` -> its URL."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "hybrid_batch.engines.fake_server", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--served-model-name", "theirs", "--tokens-per-second", "150"],
        env={**os.environ, "VLLM_API_KEY": key},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait(lambda: _listens(port), 30)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def objects_in(client: Any, bucket: str) -> dict[str, bytes]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    names = [item["Key"] for page in pages for item in page["Contents"]]
    return {name: client.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names}


def forms(secret: str) -> list[bytes]:
    """A secret as it may stand somewhere: plain, in an address, in base64."""
    return [secret.encode(), quote(secret, safe="").encode(), base64.b64encode(secret.encode()).rstrip(b"=")]


def a_job(folder: Path, output: str, url: str) -> Path:
    """A job with an engine of its own and an endpoint that needs a key; all that it writes here lies in one folder."""
    written = folder / "written"
    (written / "tmp").mkdir(parents=True)
    path = write_parquet(folder / "in" / "q.parquet", questions(120))
    document = job_document(path, output, make_tiny_router(folder / "router"))
    document["run"]["log_dir"] = str(written / "logs")
    document["spark"]["conf"] = {"spark.local.dir": str(written / "spark")}
    document["tiers"]["large"] = {"model": "theirs", "endpoint": url, "api_key_env": KEY_VARIABLE}
    return save(document, folder)


@pytest.mark.s3
@pytest.mark.spark
def test_no_secret_is_in_anything_that_a_run_writes_or_shows(gateway: CephGateway, tmp_path: Path):
    """``gateway`` is there so that the test is skipped without Ceph; its own one gives out temporary keys."""
    written, key = tmp_path / "written", secrets.token_urlsafe(24)
    with CephGateway(sts=True) as own, endpoint(key) as url, Watch(written) as watch:
        output, keys = f"{own.create_bucket('secrets')}/out", own.temporary_keys()
        config = a_job(tmp_path, output, url)
        environment = {
            **os.environ,
            **own.environment(),
            "TMPDIR": str(written / "tmp"),
            KEY_VARIABLE: key,
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_SESSION_TOKEN": keys.session_token,
        }
        driver = Driver(config, written / "output", environment=environment)
        assert driver.process.wait(RUN_S) == 0, driver.output
        objects = objects_in(own.client(), "secrets")

    shown = {f"command line: {command}": command.encode() for command in watch.commands}
    everything = objects | shown | watch.files
    used = [key, keys.secret_key, keys.session_token, own.keys.secret_key, *watch.keys]
    found = [
        place for place, content in everything.items() if any(form in content for one in used for form in forms(one))
    ]
    assert found == []

    assert len(watch.keys) == 1
    assert any(name.endswith("/manifest.json") for name in objects)
    assert any("hybrid_batch.engines.fake_server" in command for command in watch.commands)
    assert any("spark.log" in name for name in watch.files)
