"""One run that something happens to: its job, its drivers, what was there at the fault, and what came of it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.objects import Bucket, Folder, Objects, results_in
from tests.chaos.stage import Stage
from tests.s3.ceph_gateway import Keys
from tests.support.driver import Driver, left_behind, wait
from tests.support.jobs import REFUSED_ROWS, job_document, questions, save, write_parquet

ROWS, SHARD, ANSWER_TOKENS = 160, 8, 8
TASKS = 2
"""Tasks at once of every driver."""

START_S, RUN_S, STARTS = 240.0, 420.0, 4
POLL_S = 0.05


@dataclass
class Scene:
    """A job in ``folder`` whose output is ``output``; drivers get ``environment``."""

    stage: Stage
    folder: Path
    output: str
    objects: Objects
    environment: dict[str, str]
    document: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=lambda: questions(ROWS))
    drivers: list[Driver] = field(default_factory=list)
    struck_at: float | None = None
    """When the fault happened; None for one that is there all the time."""
    kept: dict[str, str] = field(default_factory=dict)
    """The results that were there at the fault."""
    ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """What has to be taken away afterwards."""
    user: str = ""
    keys: Keys | None = None
    """Whose bucket it is, where a fault changes that."""
    token_watch: Any = None
    """Who counts the tokens of engines that write down none."""

    def __post_init__(self) -> None:
        self.document = job_document(self.folder / "in" / "questions.parquet", self.output, self.stage.router)
        self.document["run"]["log_dir"] = str(self.folder / "logs")
        self.document["input"]["rows_per_split"] = ROWS // 4
        self.document["shards"]["rows"] = SHARD
        self.document["sampling"] = {"max_tokens": ANSWER_TOKENS}
        self.engines(token_log=str(self.token_log))
        self.document["tiers"]["large"]["engine_args"]["tokens_per_second"] = 100

    @property
    def token_log(self) -> Path:
        return self.folder / "tokens"

    def engines(self, **flags: Any) -> None:
        """Give ``flags`` to the engines of both tiers."""
        for tier in self.document["tiers"].values():
            tier["engine_args"] |= flags

    def write(self) -> Path:
        """Input and configuration, as they stand -> the configuration file."""
        write_parquet(self.folder / "in" / "questions.parquet", self.rows, row_group=ROWS // 4)
        return save(self.document, self.folder)

    def start(self, **environment: str) -> Driver:
        """Start a driver; with the same job it is the same command."""
        config = self.folder / "job.yaml"
        if not self.drivers:
            config = self.write()
        log = self.folder / f"driver-{len(self.drivers)}.log"
        self.drivers.append(Driver(config, log, environment=self.environment | environment))
        return self.drivers[-1]

    def until(self, condition: Callable[[], object], *, of: Driver | None = None, seconds: float = START_S) -> None:
        """Wait until ``condition`` holds.  Raises ``AssertionError`` if the driver ends before."""
        driver = of or self.drivers[-1]
        deadline = time.monotonic() + seconds
        while not condition():
            assert driver.process.poll() is None, f"the driver ended before the fault:\n{driver.output[-3000:]}"
            assert time.monotonic() < deadline, f"nothing happened for {seconds:.0f} s:\n{driver.output[-3000:]}"
            time.sleep(POLL_S)

    def until_results(self, count: int, tier: str = "large") -> None:
        """Wait until ``count`` shards of ``tier`` are committed."""
        self.until(lambda: len([name for name in self.results() if f"tier={tier}" in name]) >= count)

    def results(self) -> dict[str, str]:
        return results_in(self.objects.stamps())

    def there(self, part: str) -> list[str]:
        """Names of the objects that have ``part`` in their name."""
        return [name for name in self.objects.stamps() if part in name]

    def struck(self) -> None:
        """The fault happens at this moment."""
        self.struck_at, self.kept = time.monotonic(), self.results()

    def family(self, text: str, *drivers: Driver) -> list[psutil.Process]:
        """Processes of the ``drivers`` (all) that have ``text`` in their command line."""
        found = [process for driver in drivers or self.drivers for process in driver.family()]
        return [process for process in found if text in command_of(process)]

    def finish(self) -> float:
        """Wait for the last driver, and give the same command again while it fails -> seconds since the fault."""
        began = self.struck_at
        while self.drivers[-1].process.wait(RUN_S) != 0:
            assert len(self.drivers) < STARTS, f"it ended again and again:\n{self.drivers[-1].output[-3000:]}"
            self.start()
        ended = time.monotonic()
        for driver in self.drivers:
            driver.process.wait(RUN_S)
        return 0.0 if began is None else ended - began

    def end_drivers(self) -> int:
        """End what is left of all drivers -> how many of their processes had stayed behind."""
        left = 0
        for driver in self.drivers:
            if driver.process.poll() is None:
                driver.process.kill()
            left += len(left_behind(driver))
            driver.process.wait()
        return left

    def close(self) -> None:
        """Take everything away."""
        self.end_drivers()
        self.ends.close()


def command_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def on_folder(stage: Stage, name: str, output: Path | None = None) -> Scene:
    """A scene whose output is a local folder."""
    folder = stage.new_folder(name)
    out = output or folder / "out"
    return Scene(stage, folder, str(out), Folder(out), stage.environment())


def on_s3(stage: Stage, name: str, keys: Keys | None = None) -> Scene:
    """A scene whose output is a folder of a new bucket."""
    gateway = stage.gateway
    url = gateway.create_bucket(f"{name}-{uuid.uuid4().hex[:8]}", keys)
    environment = stage.environment() | gateway.environment() | {"AWS_EC2_METADATA_DISABLED": "true"}
    objects = Bucket(gateway.client(keys), url.removeprefix("s3://"), "out")
    return Scene(stage, stage.new_folder(name), f"{url}/out", objects, environment)


__all__ = ["REFUSED_ROWS", "Scene", "command_of", "on_folder", "on_s3", "wait"]
