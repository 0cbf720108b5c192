"""Having the rows of a shard answered: a bounded window, identical requests once, rows that kill engines given up.

An engine that dies takes all requests under way with it, and any of them may be why.  These suspects are asked again in
a narrow window, with the engine to themselves, and who is under way at a second death is asked alone.  A row that is
alone when an engine dies for the second time on it is given up, and the others go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isqrt
from typing import Final

from hybrid_batch.core.errors import EngineDiedError
from hybrid_batch.engines.base import ChatAnswer, ChatRequest, Generator, request_key
from hybrid_batch.engines.chat_wire import failed
from hybrid_batch.engines.pool import for_each

ENGINE_KILLED: Final = "engine_killed"
"""``error_kind`` of a row on which engines died."""

DEATHS_OF_A_ROW: Final = 2
"""Engine deaths with a row under way, the last of them with this row alone, after which it is given up."""

ENGINE_DEATHS: Final = 3
"""Engine deaths that a shard survives until it is known whether a row is why."""

MOST_GIVEN_UP: Final = 8
"""Rows that a shard may give up: an engine that dies on more of them is broken itself."""

MOST_DEATHS: Final = ENGINE_DEATHS * (1 + MOST_GIVEN_UP)
"""Engine deaths after which a shard has no hope, whatever was answered between them."""

PASSING: Final = frozenset({"server_error", "bad_response", "timeout"})
"""Kinds of errors that another try may not meet."""


class Asking:
    """The rows of one shard on their way to answers; it outlives the engines that answer them.

    ``names`` are the ids of the queries.  With ``share`` set, identical requests without chance in their sampling
    (temperature 0) are asked once; where the answer is a failure that may pass, the next of them is asked.  ``refused``
    are answers of rows that are not asked at all.  ``order`` holds the place of every row, those to be asked first in
    front.  ``deaths`` counts the engines that died on the way.
    """

    def __init__(
        self,
        requests: Sequence[ChatRequest],
        names: Sequence[str],
        window: int,
        *,
        share: bool = True,
        refused: Mapping[int, ChatAnswer] | None = None,
        order: Sequence[int] | None = None,
    ) -> None:
        self._requests, self._names, self._window = requests, names, window
        self._first = first_of_equals(requests) if share else list(range(len(requests)))
        self._order = range(len(requests)) if order is None else order
        self._answers: list[ChatAnswer | None] = [None] * len(requests)
        for row, answer in (refused or {}).items():
            self._first[row], self._answers[row] = row, answer
        self._deaths_with: Counter[int] = Counter()
        self._under_way: set[int] = set()
        self._given_up = 0
        self._unexplained = 0
        self.deaths = 0

    @property
    def finished(self) -> bool:
        return next(self._missing(), None) is None

    @property
    def suspects(self) -> bool:
        """True while rows are left that were under way at a death: they come first, and nobody else should use the
        engine then."""
        return any(self._deaths_with[row] for row in self._missing())

    @property
    def hopeless(self) -> bool:
        """True when the engine dies too often for the rows to be the reason."""
        unexplained = self._unexplained if self._answered_any() else self.deaths
        return unexplained > ENGINE_DEATHS or self._given_up > MOST_GIVEN_UP or self.deaths > MOST_DEATHS

    async def run(self, generator: Generator) -> None:
        """Ask for the suspects, if there are any, else for all that is missing.

        When the engine fails as a whole, ``EngineDiedError`` is raised; answers that had come are kept.
        """
        try:
            if self.suspects:
                await self._ask(self._after(2), 1, generator)
                await self._ask(self._after(1), isqrt(self._window), generator)
            else:
                self._unexplained = 0
                await self._ask(list(self._missing()), self._window, generator)
        except EngineDiedError as error:
            self._died(error)
            raise
        finally:
            self._ask_the_next_of_equals()

    def answers(self) -> list[ChatAnswer]:
        """One answer for each row, in order.  Raises ``ValueError`` if any is missing.

        A row whose request was another's too has that one's answer and id, and used no tokens and no time.
        """
        if not self.finished:
            raise ValueError("rows are still without an answer")
        return [self._answer_of(row) for row in range(len(self._requests))]

    def _answer_of(self, row: int) -> ChatAnswer:
        first = self._first[row]
        answer = self._answers[first]
        assert answer is not None
        if first == row:
            return answer
        return replace(
            answer,
            prompt_tokens=0,
            completion_tokens=0,
            cached_prompt_tokens=0,
            latency_seconds=0.0,
            answered_by=self._names[first],
        )

    def _ask_the_next_of_equals(self) -> None:
        """Where the answer of several is a failure that may pass, the next of them stands for the rest."""
        followers: dict[int, list[int]] = {}
        for row, first in enumerate(self._first):
            if row != first and (answer := self._answers[first]) is not None and answer.error_kind in PASSING:
                followers.setdefault(first, []).append(row)
        for rows in followers.values():
            for row in rows:
                self._first[row] = rows[0]

    def _missing(self) -> Iterator[int]:
        return (row for row in self._order if self._first[row] == row and self._answers[row] is None)

    def _after(self, deaths: int) -> list[int]:
        """Rows that were under way at one death, or at two and more."""
        return [row for row in self._missing() if min(self._deaths_with[row], DEATHS_OF_A_ROW) == deaths]

    def _answered_any(self) -> bool:
        return any(answer is not None and answer.error_kind != ENGINE_KILLED for answer in self._answers)

    async def _ask(self, rows: Iterable[int], window: int, generator: Generator) -> None:
        async def ask(row: int) -> None:
            self._under_way.add(row)
            self._answers[row] = await generator.answer(self._requests[row])
            self._under_way.discard(row)

        await for_each(rows, ask, window)

    def _died(self, error: EngineDiedError) -> None:
        self.deaths += 1
        self._unexplained += 1
        suspects = [row for row in self._under_way if self._answers[row] is None]
        self._under_way.clear()
        self._deaths_with.update(suspects)
        if len(suspects) == 1 and self._deaths_with[suspects[0]] >= DEATHS_OF_A_ROW:
            self._given_up += 1
            self._unexplained = 0
            times = self._deaths_with[suspects[0]]
            told = f"{times} engines died while they answered this row, the last of them this row alone: {error}"
            self._answers[suspects[0]] = failed(ENGINE_KILLED, told)


def first_of_equals(requests: Sequence[ChatRequest]) -> list[int]:
    """For each request the index of the first one that is identical and must have the same answer, else its own."""
    first: dict[bytes, int] = {}
    return [
        first.setdefault(request_key(request), index) if request.sampling.temperature == 0 else index
        for index, request in enumerate(requests)
    ]
