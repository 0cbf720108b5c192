"""The fake server as an endpoint that outlives every driver, and counts all tokens that it was made to write."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

MODEL = "fake-endpoint"
_COUNTER = "vllm:generation_tokens_total"


class Endpoint:
    """One fake server on ``port``; as a context manager it ends with its block."""

    def __init__(self, port: int, log: Path, *flags: str) -> None:
        self.port = port
        command = [sys.executable, "-m", "hybrid_batch.engines.fake_server", "--port", str(port)]
        command += ["--served-model-name", MODEL, *flags]
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 60
        while written_tokens(self.port) is None:
            assert self._process.poll() is None, "the endpoint ended"
            assert time.monotonic() < deadline, "the endpoint does not listen"
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(10)

    @property
    def tokens(self) -> int:
        """Tokens written since it started."""
        return written_tokens(self.port) or 0


def written_tokens(port: int) -> int | None:
    """The tokens that the server on ``port`` wrote, None if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in text.splitlines() if line.startswith(_COUNTER))


def free_port() -> int:
    """A port of this machine that nobody uses at the moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
