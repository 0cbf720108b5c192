"""A folder of a store as a folder on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from hybrid_batch.storage import normalise, open_store


def local_copy(url: str, folder: Path, check: Callable[[Path], None] = lambda _: None) -> Path:
    """All objects below ``url`` in ``folder``, made once and whole -> ``folder``.

    Processes that ask for the same folder at once wait for the first.  The caller names a folder that belongs to this
    content alone; a copy for which ``check`` raises is not kept.  Raises ``StorageError`` if the store fails.
    """
    place = normalise(url)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            store = open_store(place)
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                copy = Path(temporary) / "copy"
                copy.mkdir()
                for item in store.list(place):
                    target = copy / item.url.removeprefix(f"{place}/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(store.read(item.url))
                check(copy)
                copy.rename(folder)
    return folder
