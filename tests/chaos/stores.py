"""Faults of stores: the S3 server and what lies before it, credentials, a full disk, a wrong clock."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.chaos.fault import Fault
from tests.chaos.front import ChaosFront, broken, slow, vanish
from tests.chaos.processes import end_driver, two_drivers
from tests.chaos.scene import RUN_S, TASKS, Scene, on_folder, on_s3
from tests.chaos.stage import Missing, Stage
from tests.s3.ceph_gateway import Keys
from tests.s3.flaky_front import Behaviour

AWAY_S = 5.0
DISK_MB = 24
CLOCK_SOURCE = Path(__file__).with_name("clock.c")
REPEATED = 4 * (TASKS + 1)
"""Shards that are answered where none can be written: Spark tries each task four times, others in between."""


def behind_front(does: str | Behaviour, share: float = 1.0, *methods: str) -> Callable[[Scene], None]:
    """A run behind a front that misbehaves from the first part of the scores on."""

    def act(scene: Scene) -> None:
        front = ChaosFront(scene.environment["AWS_ENDPOINT_URL"], does, share, methods)
        scene.ends.enter_context(front)
        driver = scene.start(AWS_ENDPOINT_URL=front.endpoint)
        scene.until(lambda: scene.there("/scored/part-"))
        front.awake = True
        driver.process.wait(RUN_S)
        assert front.struck, "nothing happened to any request"

    return act


def restart_gateway(scene: Scene) -> None:
    """kill -9 of the S3 server, which is back after some seconds."""
    gateway = scene.stage.gateway
    scene.start()
    scene.until_results(3)
    scene.struck()
    gateway.kill_front_end()
    time.sleep(AWAY_S)
    gateway.start_front_end()


def lose_gateway(scene: Scene) -> None:
    """kill -9 of the S3 server, which stays away for longer than the driver tries."""
    gateway = scene.stage.gateway
    scene.environment["AWS_MAX_ATTEMPTS"] = "2"
    driver = scene.start()
    scene.until_results(3)
    scene.struck()
    gateway.kill_front_end()
    try:
        driver.process.wait(RUN_S)
    finally:
        gateway.start_front_end()


def on_own_bucket(stage: Stage, name: str) -> Scene:
    """A scene on a bucket of a user of its own, whose keys can be changed."""
    user = f"{name}-{uuid.uuid4().hex[:6]}"
    keys = stage.gateway.create_user(user)
    scene = on_s3(stage, name, keys)
    scene.user, scene.keys = user, keys
    scene.environment |= {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}
    return scene


def renew_keys(scene: Scene) -> None:
    """Keys that last for minutes come from a process; in mid-run it gives others, and the old ones are refused."""
    answer, config = scene.folder / "answer.json", scene.folder / "config"
    reader = f"{sys.executable} -Sc \"print(open('{answer}').read())\""
    config.write_text(f"[profile renewed]\ncredential_process = {reader}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del scene.environment[name]
    scene.environment |= {"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "renewed"}
    _hand_out(answer, scene.keys)
    scene.start()
    scene.until_results(3)
    scene.struck()
    _hand_out(answer, _replaced(scene))


def revoke_keys(scene: Scene) -> None:
    """The keys are refused in mid-run; the next driver has others."""
    driver = scene.start()
    scene.until_results(3)
    scene.struck()
    keys = _replaced(scene)
    driver.process.wait(RUN_S)
    scene.environment |= {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}


def _replaced(scene: Scene) -> Keys:
    gateway = scene.stage.gateway
    keys = gateway.add_keys(scene.user)
    if (answer := scene.folder / "answer.json").exists():
        _hand_out(answer, keys)
    scene.objects.client = gateway.client(keys)  # type: ignore[attr-defined]
    gateway.remove_keys(scene.keys)
    return keys


def _hand_out(answer: Path, keys: Keys) -> None:
    """As a credential process says it.  botocore renews what ends within ten minutes at every call."""
    told = {
        "Version": 1,
        "AccessKeyId": keys.access_key,
        "SecretAccessKey": keys.secret_key,
        "Expiration": (datetime.now(UTC) + timedelta(minutes=5)).isoformat(),
    }
    draft = answer.with_suffix(".new")
    draft.write_text(json.dumps(told))
    draft.replace(answer)


def on_small_disk(stage: Stage, name: str) -> Scene:
    """A scene whose output is a small file system of its own, in memory."""
    scene = on_folder(stage, name)
    disk = Path(scene.output)
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"the right to mount: {done.stderr.strip()}")
    scene.ends.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
    return scene


def fill_disk(scene: Scene) -> None:
    """The disk is full until the driver has given up."""
    driver = scene.start()
    scene.until_results(3)
    scene.struck()
    filler = Path(scene.output) / ".filler"
    _fill(filler)
    driver.process.wait(RUN_S)
    filler.unlink()


def _fill(path: Path) -> None:
    block = 1 << 20
    with path.open("wb", buffering=0) as file:
        while block >= 512:
            try:
                file.write(bytes(block))
            except OSError:
                block //= 2


def set_clock(shift_s: int) -> Callable[[Scene], None]:
    """The clock of the driver's machine jumps in mid-run; where that ended the driver, it is right again then."""

    def act(scene: Scene) -> None:
        clock = scene.folder / "clock"
        clock.write_bytes(struct.pack("q", 0))
        driver = scene.start(LD_PRELOAD=str(_clock_library(scene.folder)), CLOCK_SHIFT=str(clock))
        scene.until_results(3, "small")
        scene.struck()
        with clock.open("r+b") as file:
            file.write(struct.pack("q", shift_s))
        driver.process.wait(RUN_S)

    return act


def _clock_library(folder: Path) -> Path:
    """What sets a program's clock, compiled here."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise Missing("a C compiler")
    library = folder / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, CLOCK_SOURCE], check=True)
    return library


def _on_s3(name: str, what: str, act: Callable[[Scene], None], shards_lost: int | None = 0) -> Fault:
    return Fault(name, what, act, on_s3, shards_lost)


FAULTS: Sequence[Fault] = [
    _on_s3("s3-kill-driver", "kill -9 of the driver, output on S3", end_driver(signal.SIGKILL), TASKS),
    _on_s3("s3-two-drivers", "two drivers at once, output on S3", two_drivers, None),
    _on_s3("s3-restart", f"kill -9 of the S3 gateway, back after {AWAY_S:.0f} s", restart_gateway),
    _on_s3("s3-lost", "kill -9 of the S3 gateway, back after the driver's end", lose_gateway, TASKS),
    _on_s3("s3-slow", "every request to S3 takes 0.2 s longer", behind_front(slow)),
    _on_s3("s3-500", "10 % of requests to S3 get 500", behind_front(broken, 0.10)),
    _on_s3("s3-503", "10 % of requests to S3 get 503 SlowDown", behind_front("slow_down", 0.10)),
    _on_s3("s3-reset", "10 % of connections to S3 are reset", behind_front("reset", 0.10)),
    _on_s3("s3-loss", "1 % of requests to S3 vanish", behind_front(vanish, 0.01)),
    _on_s3("s3-lost-answers", "30 % of puts are stored, their answers lost", behind_front("lost_answer", 0.30, "PUT")),
    _on_s3("s3-conflict", "20 % of puts get 409", behind_front("conflict", 0.20, "PUT")),
    _on_s3("s3-cut", "20 % of the bodies that S3 sends are cut", behind_front("cut_body", 0.20, "GET")),
    Fault("keys-renewed", "the keys of S3 are replaced by new ones", renew_keys, on_own_bucket),
    Fault("keys-revoked", "the keys of S3 are refused from now on", revoke_keys, on_own_bucket, TASKS),
    Fault("disk-full", "the disk of the output is full, then freed", fill_disk, on_small_disk, REPEATED),
    Fault("clock-back", "the clock jumps an hour back", set_clock(-3600), on_folder),
    _on_s3("s3-clock-ahead", "the clock jumps an hour ahead, output on S3", set_clock(3600), TASKS),
]
