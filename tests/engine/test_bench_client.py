"""The benchmark of the client alone, on few requests: that it runs and says what it promises."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def test_the_client_and_bare_sockets_are_measured():
    command = [sys.executable, "-m", "benchmarks.client_ceiling", "--requests", "300"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["requests"] == 300
    rates = [told[f"{name}_requests_per_s"] for name in ("client", "http", "raw")]
    assert min(rates) > 0
    assert told["client_vs_raw"] == pytest.approx(rates[0] / rates[2], abs=0.002)
