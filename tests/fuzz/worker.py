"""A process that reads cases as lines of JSON and answers each with its verdict, so that a crash ends only itself."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path

from tests.fuzz.cases import Case
from tests.fuzz.reading import FAILED, Verdict, judge

LIMIT_S = 60.0
"""A case takes some hundredths of a second; one that takes so long does not end."""

MOST_MEMORY = 8 << 30
MOST_GROWTH_MB = 512
_PEAK = Path("/proc/self/clear_refs")


class Reader:
    """Reads cases in a process of its own, which is started again when it dies or hangs."""

    def __init__(self) -> None:
        self.deaths = 0
        self._process: subprocess.Popen[str] | None = None

    def judge(self, case: Case) -> Verdict:
        """What came of ``case``; a process that dies or hangs is a failure too."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(case) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], LIMIT_S)
        line = process.stdout.readline() if ready else ""
        if line:
            return Verdict(**json.loads(line))
        self.deaths += 1
        self.close()
        why = f"the process died of {_cause(process.returncode)}" if ready else f"no end after {LIMIT_S:.0f} s"
        return Verdict(FAILED, why)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill() if self._process.poll() is None and not _has_died(self._process) else None
            self._process.wait()
            self._process = None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = [sys.executable, "-m", "tests.fuzz.worker"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self._process


def _has_died(process: subprocess.Popen[str]) -> bool:
    """Its output has ended: wait for the status that says why."""
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        return False
    return True


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    # What libraries print must not come between the verdicts.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        _PEAK.write_text("5")
        before = _peak_mb()
        verdict = judge(json.loads(line))
        if (grown := _peak_mb() - before) > MOST_GROWTH_MB:
            verdict = Verdict(FAILED, f"{grown:.0f} MB were needed: {verdict.what}", verdict.when)
        answers.write(json.dumps(verdict.to_dict()) + "\n")


if __name__ == "__main__":
    main()
