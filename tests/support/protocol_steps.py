"""Programs that stop at each step on the storage, so that a scheduler can let anything happen between two steps.

A program is plain code over a :class:`Steps`, which is a ``Store``.  It is run from its beginning with the answers that
its steps have had so far, and stops at the first step that has none.  So a program needs no thread, the same answers
lead to the same place, and places can be kept in a tree and compared.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from hybrid_batch.core.errors import HybridBatchError, StorageError
from hybrid_batch.core.records import ShardId
from hybrid_batch.storage import ObjectInfo

READS = ("read", "read_if_present", "open_input", "stat")
STAGE, PAY = "stage", "pay"


@dataclass(frozen=True)
class Stage:
    """Units of work that a driver hands out, and what it tells their tasks."""

    kind: str
    units: tuple[Hashable, ...]
    told: Any = None


@dataclass(frozen=True)
class Step:
    """What a program wants to do next; ``key`` tells it from the same step done earlier."""

    kind: str
    url: str
    data: Any = None
    key: tuple[str, str, int] = ("", "", 0)


@dataclass(frozen=True)
class End:
    """How a program ended: with a value, or with one of our own errors."""

    value: Any = None
    error: str | None = None


class _Stopped(BaseException):
    """Leaves a program where it has no answer; no ``except Exception`` may hold it."""

    def __init__(self, step: Step) -> None:
        self.step = step


class Steps:
    """The storage as a program sees it.  Programs may use several threads, as long as these do not touch the same
    object: the step that counts is then that of the thread whose result is waited for first."""

    def __init__(self, answers: Mapping[tuple[str, str, int], Any]) -> None:
        self._answers = answers
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def list(self, prefix_url: str) -> list[ObjectInfo]:
        return list(self._answer("list", prefix_url))

    def stat(self, url: str) -> ObjectInfo | None:
        return self._answer("stat", url)

    def read(self, url: str) -> bytes:
        return self._answer("read", url)

    def read_if_present(self, url: str) -> bytes | None:
        return self._answer("read_if_present", url)

    def put_if_absent(self, url: str, data: bytes) -> bool:
        return self._answer("put_if_absent", url, data)

    def put(self, url: str, data: bytes) -> None:
        self._answer("put", url, data)

    def delete(self, url: str) -> None:
        self._answer("delete", url)

    def open_input(self, url: str) -> pa.NativeFile:
        return pa.BufferReader(self._answer("open_input", url))

    def run(self, stage: Stage) -> None:
        """Wait until a task of each unit of ``stage`` succeeded.  Raises ``SparkError`` if all of a unit failed."""
        self._answer(STAGE, stage.kind, stage)

    def pay(self, shard: ShardId) -> None:
        """Have ``shard`` answered: the tokens are spent."""
        self._answer(PAY, f"{shard.tier}/{shard.number}", shard)

    def _answer(self, kind: str, url: str, data: Any = None) -> Any:
        with self._lock:
            key = (kind, url, self._asked[kind, url])
            self._asked[kind, url] += 1
        if key not in self._answers:
            raise _Stopped(Step(kind, url, data, key))
        answer = self._answers[key]
        if isinstance(answer, HybridBatchError):
            raise answer
        return answer


Program = Callable[[Steps], Any]


@dataclass(eq=False)
class Place:
    """Where a program stands after the answers it had; ``number`` is the same for the same answers."""

    program: Program
    answers: Mapping[tuple[str, str, int], Any] = field(default_factory=dict)
    number: int = 0
    _next: Step | End | None = None
    _after: dict[Hashable, Place] = field(default_factory=dict)

    @property
    def next(self) -> Step | End:
        """What the program does next."""
        if self._next is None:
            try:
                self._next = End(self.program(Steps(self.answers)))
            except _Stopped as stopped:
                self._next = stopped.step
            except HybridBatchError as error:
                self._next = End(error=str(error))
        return self._next

    def after(self, answer: Any, known_as: Hashable, number: Callable[[], int]) -> Place:
        """The place after ``answer`` to the next step; equal ``known_as`` mean equal answers."""
        if known_as not in self._after:
            assert isinstance(self.next, Step)
            self._after[known_as] = Place(self.program, {**self.answers, self.next.key: answer}, number())
        return self._after[known_as]


def lost(url: str) -> StorageError:
    """What a client says when it got no answer."""
    return StorageError(f"cannot write {url}: the connection was closed")
