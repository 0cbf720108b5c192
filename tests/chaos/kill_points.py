"""Kill the driver, and all that came of it, at random moments; start it again; count rows and tokens at the end.

``make chaos-kills KILLS=200``.  A start lives for a random time, so a run of many shards is killed many times before it
is finished, in all its phases; then the next run begins.  What happened is written down after each kill, so the same
command goes on where it was interrupted.  The last line is JSON.

Both models are endpoints that outlive the driver: so every token is counted that anybody had written, also those of
answers that nobody waited for any more.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from tests.chaos.kill_diary import Diary, Finished, Kill, figures, tell
from tests.support.driver import GONE_S, Driver, wait
from tests.support.endpoint import MODEL, Endpoint, free_port
from tests.support.jobs import job_document, save, write_jsonl
from tests.support.tiny_router import make_tiny_router

SHARD_ROWS = 2
SPEED = ("--tokens-per-second", "800")
LAST_RUN_S = 1_800.0


@dataclass(frozen=True)
class Plan:
    """``shards`` of two rows; a start lives between 0 and ``longest_s`` seconds.

    Half of the starts are given these seconds from their first commit on: on a busy machine a start takes long, and
    only its beginning would be hit.
    """

    shards: int = 2_000
    longest_s: float = 45.0
    seed: int = 0


class Run:
    """One run in a folder of its own."""

    def __init__(self, number: int, plan: Plan, folder: Path, endpoints: dict[str, Endpoint]) -> None:
        self.number, self.plan, self.endpoints = number, plan, endpoints
        self.folder = folder / f"run-{number}"
        self.rows = SHARD_ROWS * plan.shards
        if not (self.folder / "job.yaml").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._prepare(folder / "router")

    def _prepare(self, router: Path) -> None:
        if not router.exists():
            make_tiny_router(router)
        rows = [{"query_id": f"q{n:06d}", "prompt": f"Question {n}: what follows?"} for n in range(self.rows)]
        path = write_jsonl(self.folder / "in" / "questions.jsonl", rows)
        document = job_document(path, str(self.folder / "out"), router)
        document["input"] |= {"keep": [], "rows_per_split": max(1, self.rows // 8)}
        document["policy"] = {"small_share": 0.5}
        document["shards"]["rows"] = SHARD_ROWS
        tier = {"model": MODEL, "concurrency": 8}
        document["tiers"] = {name: {**tier, "endpoint": one.url} for name, one in self.endpoints.items()}
        save(document, self.folder)

    def start(self) -> Driver:
        return Driver(self.folder / "job.yaml", self.folder / f"log-{time.time_ns()}.txt")

    @property
    def tokens(self) -> int:
        """Tokens that the endpoints have written, for whatever run."""
        return sum(one.tokens for one in self.endpoints.values())

    def objects(self) -> dict[Path, int]:
        """Everything that is committed, with the times of writing."""
        found = (self.folder / "out" / "runs").rglob("*")
        return {path: path.stat().st_mtime_ns for path in found if path.is_file() and not path.name.startswith(".")}

    def phase(self, objects: dict[Path, int]) -> str:
        """Where the run stands, by what is committed."""
        kinds = Counter(path.relative_to(self.folder / "out" / "runs").parts[1] for path in objects)
        routing = next((path for path in objects if path.name == "routing.parquet"), None)
        plan = next((path for path in objects if path.name == "plan.json"), None)
        planned = 0 if routing is None else pq.read_metadata(routing).num_rows
        parts = 0 if plan is None else len(json.loads(plan.read_text())["splits"])
        steps = (
            ("preflight", plan is None),
            ("ids", not kinds["scored"]),
            ("score", kinds["scored"] < parts),
            ("decide", routing is None),
            ("route", kinds["routed"] - 1 < planned),
            ("generate", kinds["results"] < planned),
            ("account", not kinds["manifest.json"]),
        )
        return next((name for name, is_there in steps if is_there), "finished")

    def results(self) -> tuple[int, int, int]:
        """Rows of all results, those of them that are there more than once, and their tokens."""
        root = next((self.folder / "out" / "runs").iterdir())
        table = pq.read_table(root / "results", columns=["query_id", "completion_tokens"])
        ids = table["query_id"].to_pylist()
        return len(ids), len(ids) - len(set(ids)), sum(table["completion_tokens"].to_pylist())


def kill_once(run: Run, number: int) -> Kill | None:
    """Start the run and kill it at a random moment -> what was hit; None if it had ended before."""
    before, draw = run.objects(), random.Random(f"{run.plan.seed} {number}")
    after_s, had_begun = draw.uniform(0, run.plan.longest_s), draw.random() < 0.5
    if ends_within(run, after_s, had_begun):
        return None
    objects = run.objects()
    results = [path for path in objects if "results" in path.parts]
    touched = sum(before[path] != objects.get(path) for path in before if "results" in path.parts)
    return Kill(
        run=run.number,
        after_s=round(after_s, 2),
        had_begun=had_begun,
        phase=run.phase(objects),
        results=len(results),
        new=len(objects.keys() - before),
        touched=touched,
    )


def ends_within(run: Run, seconds: float, has_begun: bool = False) -> bool:
    """Start the run, and kill what is left of it after ``seconds`` -> False if anything was.

    With ``has_begun`` the time counts from the first object that this start commits.  Raises ``AssertionError`` if
    the run ended by itself and not well.
    """
    before, driver = len(run.objects()), run.start()
    try:
        if has_begun:
            wait(lambda: len(run.objects()) > before or driver.process.poll() is not None, LAST_RUN_S)
        driver.process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    finally:
        kill_family(driver)
    code = driver.process.returncode
    if code == -signal.SIGKILL:
        return False  # Somebody else was faster: the system, out of memory, or a person.
    assert code == 0, f"a start ended with {code}:\n{driver.output}"
    return True


def kill_family(driver: Driver) -> None:
    """SIGKILL to the driver and everything that it started."""
    driver.process.kill()

    def all_gone() -> bool:
        family = driver.family()
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        return not family

    wait(all_gone, GONE_S)
    driver.process.wait(GONE_S)


def finish(run: Run, diary: Diary, tokens: int) -> Finished:
    """The run has ended well: count.  ``tokens`` were written for its last start."""
    rows, doubled, used = run.results()
    kills = [kill for kill in diary.kills if kill.run == run.number]
    return Finished(run.number, len(kills), run.rows, rows, doubled, tokens + sum(kill.tokens for kill in kills), used)


def play(plan: Plan, kills: int, folder: Path) -> Iterator[Kill | Finished]:
    """Kill until there were ``kills`` kills, and let the last run come to its end."""
    diary = Diary(folder)
    with ExitStack() as stack:
        ports = _ports(folder)
        endpoints = {
            name: stack.enter_context(Endpoint(port, folder / f"endpoint-{name}.txt", *SPEED))
            for name, port in ports.items()
        }
        told = 0
        while len(diary.kills) < kills or len(diary.finished) <= diary.kills[-1].run:
            run = Run(len(diary.finished), plan, folder, endpoints)
            if len(diary.kills) >= kills:
                assert ends_within(run, LAST_RUN_S), f"the last start did not end within {LAST_RUN_S:.0f} s"
                kill = None
            else:
                kill = kill_once(run, len(diary.kills))
            told, tokens = run.tokens, run.tokens - told
            event = finish(run, diary, tokens) if kill is None else replace(kill, tokens=tokens)
            diary.add(event)
            yield event
            if kill is None:
                shutil.rmtree(run.folder)


def _ports(folder: Path) -> dict[str, int]:
    """The ports of the endpoints: their addresses belong to the identity of a run, so they are kept."""
    path = folder / "ports.json"
    if not path.exists():
        path.write_text(json.dumps({"small": free_port(), "large": free_port()}))
    ports: dict[str, int] = json.loads(path.read_text())
    return ports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--shards", type=int, default=Plan.shards)
    parser.add_argument("--longest", type=float, default=Plan.longest_s, help="seconds that a start lives at most")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--folder", type=Path, default=Path("out/chaos-kills"), help="delete it to begin anew")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the endpoints and the driver end too
    plan = Plan(given.shards, given.longest, given.seed)
    for event in play(plan, given.kills, given.folder.absolute()):
        print(time.strftime("%H:%M:%S"), tell(event, len(Diary(given.folder).kills)), flush=True)
    found = figures(Diary(given.folder))
    print(json.dumps(found))
    return int(any(found[name] for name in ("lost", "doubled", "rewritten")))


if __name__ == "__main__":
    sys.exit(main())
