"""``hybrid-batch run`` as a process of its own, and every process that comes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

MARK = "HYBRID_BATCH_TEST_DRIVER"
GONE_S = 30.0
"""Seconds within which everything that a driver started must have ended after it."""


class Driver:
    """``hybrid-batch run`` of one configuration, in a process group of its own.

    ``environment`` takes the place of this process's own.
    """

    def __init__(self, config: Path, log: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.mark = uuid.uuid4().hex
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hybrid_batch", "run", str(config), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**(os.environ if environment is None else environment), MARK: self.mark},
                start_new_session=True,
            )

    def send(self, number: signal.Signals, *, group: bool) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)

    def family(self) -> list[psutil.Process]:
        """Every process that this driver started, directly or not: they all inherit its environment.

        A process that renames itself, as vLLM's engine core does, writes over what shows it: it counts by its parent.
        """
        marked = [process for process in psutil.process_iter() if _environment(process).get(MARK) == self.mark]
        return list({process.pid: process for one in marked for process in (one, *_children(one))}.values())

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return {} if process.status() == psutil.STATUS_ZOMBIE else process.environ()
    except psutil.Error:
        return {}


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def left_behind(driver: Driver) -> list[psutil.Process]:
    """What is still there after the time that a clean end takes; it is ended then."""
    try:
        wait(lambda: not driver.family(), GONE_S)
    except AssertionError:
        left = driver.family()
        for process in left:
            process.kill()
        return left
    return []


def wait(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until ``condition`` holds.  Raises ``AssertionError`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing happened for {seconds:.0f} s"
        time.sleep(0.1)
