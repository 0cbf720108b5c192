"""The demo's router as a complete folder: the committed head and card, joined with the cached encoder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from hybrid_batch.demo.catalogue import CATALOGUE, ENCODER
from hybrid_batch.demo.models import cache_dir, ensure_model
from hybrid_batch.engines import router_card
from hybrid_batch.engines.router_card import CARD, HEAD, read_card

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
        (made / router_card.ENCODER).mkdir(parents=True)
        for name in (CARD, HEAD):
            shutil.copyfile(COMMITTED / name, made / name)
        for file in CATALOGUE[ENCODER].files:
            shutil.copyfile(encoder / file.filename, made / router_card.ENCODER / file.filename)
        read_card(made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
