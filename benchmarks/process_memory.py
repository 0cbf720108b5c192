"""Processor time and peak memory of a tree of processes, by kind of process, measured from outside.

What is summed of memory is PSS: pages that forked workers share count once over all of them.  Where the system has no
PSS, USS.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from types import TracebackType

import psutil

EVERY_SECONDS = 0.2
DRIVER, JVM, WORKERS = "driver", "jvm", "workers"
KINDS = (DRIVER, JVM, WORKERS)


class ProcessTree:
    """Looks at the process ``root`` and all below it several times a second; ``phase`` may be set at any time.

    ``peaks`` has, for each phase, the peak in MB of each kind (summed over its processes) and of all together
    (``total``).
    """

    def __init__(self, root: int) -> None:
        self.phase = "start"
        self.peaks: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys((*KINDS, "total"), 0.0))
        self._root = psutil.Process(root)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> ProcessTree:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def cpu_seconds(self) -> Counter[str]:
        """Processor time by kind of process so far, of those that ended too."""
        used = Counter[str]()
        for process, kind in self._tree():
            used[kind] += _cpu_seconds(process)
        return used

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            phase, found = self.phase, Counter[str]()
            for process, kind in self._tree():
                found[kind] += megabytes(process)
            peaks = self.peaks[phase]
            for name in KINDS:
                peaks[name] = max(peaks[name], found[name])
            peaks["total"] = max(peaks["total"], found.total())

    def _tree(self) -> list[tuple[psutil.Process, str]]:
        try:
            below = self._root.children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [(self._root, DRIVER), *((process, _kind(process)) for process in below)]


def megabytes(process: psutil.Process) -> float:
    """PSS of ``process`` in MB (USS where there is no PSS); 0 once it is gone."""
    try:
        memory = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0
    return float(getattr(memory, "pss", memory.uss)) / 1e6


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0


def _kind(process: psutil.Process) -> str:
    try:
        return JVM if process.name().startswith("java") else WORKERS
    except psutil.NoSuchProcess:
        return WORKERS
