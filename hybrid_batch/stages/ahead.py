"""Make the next thing ready while the one before it is in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


@contextmanager
def ahead(items: Iterable[Item]) -> Iterator[Iterator[Item]]:
    """``items``, each made in another thread while the caller is busy with the one before it: one ahead, no more.

    An error of ``items`` is raised where its item would have come.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        yield _drawn(source, pool)


def _drawn(source: Iterator[Item], pool: ThreadPoolExecutor) -> Iterator[Item]:
    coming: Future = pool.submit(next, source, _END)
    while (item := coming.result()) is not _END:
        coming = pool.submit(next, source, _END)
        yield item
