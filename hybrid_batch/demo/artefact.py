"""The demo's router as a complete folder: card and heads of the package, and the cached encoder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from hybrid_batch.core.errors import InputError
from hybrid_batch.demo.catalogue import CATALOGUE, ENCODER
from hybrid_batch.demo.models import cache_dir, ensure_model
from hybrid_batch.engines import router_card
from hybrid_batch.engines.router_card import CARD, read_card

COMMITTED = Path(__file__).parent / "data" / "router"


def assemble_router(cache: Path | None = None) -> Path:
    """Folder of the demo's router in the cache, put together first where it is missing or another version.

    Raises ``ConfigError`` if the parts are not the ones that the card names.
    """
    folder = cache_dir(cache) / "routers" / "demo"
    if _is_current(folder):
        return folder
    encoder = ensure_model(ENCODER, cache)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".demo.lock"):
        if not _is_current(folder):
            _assemble(encoder, folder)
    return folder


def adopt_router(folder: Path, target: Path = COMMITTED) -> None:
    """Make the router in ``folder`` the one that comes with the package: all but its encoder, which is fetched.

    Raises ``ConfigError`` for a folder that is no router, ``InputError`` if its encoder is not the demo's.
    """
    card = read_card(folder)
    pinned = {f"{router_card.ENCODER}/{file.filename}": file.sha256 for file in CATALOGUE[ENCODER].files}
    own = [name for name in card.files if name not in pinned]
    for name, sha256 in pinned.items():
        if name not in card.files or card.files[name].sha256 != sha256:
            raise InputError(f"{folder}: {name} is not that of {CATALOGUE[ENCODER].repo}, the demo's encoder")
    shutil.rmtree(target, ignore_errors=True)
    _copy(folder, target, [CARD, *own])


def _is_current(folder: Path) -> bool:
    """Same card and every file with its size.  Loading checks the hashes, so this needs not."""
    content = (COMMITTED / CARD).read_bytes()
    if not (folder / CARD).is_file() or (folder / CARD).read_bytes() != content:
        return False
    files = read_card(content).files.items()
    return all((folder / name).is_file() and (folder / name).stat().st_size == file.bytes for name, file in files)


def _assemble(encoder: Path, folder: Path) -> None:
    for leftover in folder.parent.glob(".demo.partial-*"):
        shutil.rmtree(leftover)
    work = Path(tempfile.mkdtemp(prefix=".demo.partial-", dir=folder.parent))
    try:
        made = work / "made"
        committed = [path.relative_to(COMMITTED).as_posix() for path in COMMITTED.rglob("*") if path.is_file()]
        _copy(COMMITTED, made, committed)
        _copy(encoder, made / router_card.ENCODER, [file.filename for file in CATALOGUE[ENCODER].files])
        read_card(made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _copy(source: Path, target: Path, names: list[str]) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
