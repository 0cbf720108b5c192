"""A model behind an endpoint as the judge: it grades one answer of each model side by side, in both orders.

Zheng et al., NeurIPS 2023 (arXiv 2306.05685, section 3.4): judges prefer the place as such, and swapping the places
shows it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hybrid_batch.core.errors import EndpointError
from hybrid_batch.engines.base import INVALID_REQUEST, ChatRequest, EndpointRecipe, Sampling
from hybrid_batch.engines.chat_client import ChatClient
from hybrid_batch.engines.endpoint import open_endpoint
from hybrid_batch.engines.pool import for_each
from hybrid_batch.quality.base import Answers, Case, Qualities
from hybrid_batch.quality.verdicts import (
    AGAIN,
    Comparison,
    Verdict,
    comparisons,
    conversation,
    quality_of,
    read_verdict,
)

ASKINGS: Final = 3
"""How often one verdict is asked for: once, and twice more if the reply cannot be read."""

SYSTEMATIC: Final = 16
"""Refused requests from which the fault is not in the rows, if no other request was answered."""


@dataclass(frozen=True)
class JudgeSettings:
    """How the judge is asked.  ``votes`` counts verdicts in both orders; ``instructions`` follow the standing ones."""

    votes: int = 1
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=512))
    instructions: str | None = None


@dataclass(frozen=True)
class _Asking:
    """One verdict to ask for: the comparison, which of its votes, and whether the large model's answer stands first."""

    comparison: Comparison
    vote: int
    swapped: bool


class JudgeScorer:
    """Qualities by votes of a judge, in [0, 1].

    A vote is two verdicts, one in each order, so that a judge who favours a place favours both answers alike.  If
    one of the two is missing after all tries, so is the vote.  The quality of an answer is the median of its grades.
    """

    def __init__(self, recipe: EndpointRecipe, settings: JudgeSettings) -> None:
        self._recipe = recipe
        self._settings = settings
        self._marker = secrets.token_hex(8)  # drawn after the answers were written: none of them can close its quote
        self._runner = asyncio.Runner()
        self._client = ChatClient(
            open_endpoint(recipe),
            concurrency=recipe.concurrency,
            request_timeout_s=recipe.request_timeout_s,
            retry_budget_s=recipe.retry_budget_s,
        )

    def score(self, cases: Sequence[Case], small: Answers, large: Answers) -> tuple[Qualities, Qualities]:
        """As the protocol says.  Raises ``EndpointError`` for an endpoint that is down or refuses every request."""
        if not len(cases) == len(small) == len(large):
            raise ValueError(f"{len(cases)} cases with {len(small)} and {len(large)} rows of answers")
        askings = [
            _Asking(comparison, vote, swapped)
            for comparison in comparisons(small, large)
            for vote in range(self._settings.votes)
            for swapped in (False, True)
        ]
        requests = [self._request(cases, small, large, asking) for asking in askings]
        verdicts = self._runner.run(self._ask_all(requests))
        of_small, of_large = _grades(askings, verdicts)
        return _qualities(of_small, small), _qualities(of_large, large)

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def _request(self, cases: Sequence[Case], small: Answers, large: Answers, asking: _Asking) -> ChatRequest:
        pair = asking.comparison
        ours, theirs = small[pair.row][pair.small] or "", large[pair.row][pair.large] or ""
        first, second = (theirs, ours) if asking.swapped else (ours, theirs)
        turns = conversation(cases[pair.row], first, second, self._marker, self._settings.instructions)
        return ChatRequest(turns, self._settings.sampling)

    async def _ask_all(self, requests: Sequence[ChatRequest]) -> list[Verdict | None]:
        """One verdict for each request, None where there is none.  The first ``EngineError`` ends all."""
        verdicts: list[Verdict | None] = [None] * len(requests)
        refusals: list[str] = []

        async def ask(place: int) -> None:
            verdicts[place] = await self._ask(requests[place], refusals)

        await for_each(range(len(requests)), ask, min(self._recipe.concurrency, len(requests)))
        if len(refusals) >= SYSTEMATIC and len(refusals) == len(requests):
            raise EndpointError(f"the judge {self._recipe.base_url} refused every request: {refusals[0]}")
        return verdicts

    async def _ask(self, request: ChatRequest, refusals: list[str]) -> Verdict | None:
        """One verdict; a request that the endpoint cannot answer is not asked again, its client has done so."""
        for _ in range(ASKINGS):
            answer = await self._client.answer(request)
            if answer.error_kind == INVALID_REQUEST:
                refusals.append(answer.error_message or "")
            if answer.text is None:
                return None
            verdict = read_verdict(answer.text)
            if verdict is not None:
                return verdict
            said = {"role": "assistant", "content": answer.text}
            request = ChatRequest([*request.messages[:2], said, {"role": "user", "content": AGAIN}], request.sampling)
        return None


_Grades = dict[tuple[int, int], list[float]]
"""Grades of an answer by its row and place."""


def _grades(askings: Sequence[_Asking], verdicts: Sequence[Verdict | None]) -> tuple[_Grades, _Grades]:
    """Grades of the small and of the large model's answers, of the votes that have both orders."""
    votes: dict[tuple[Comparison, int], dict[bool, Verdict]] = defaultdict(dict)
    for asking, verdict in zip(askings, verdicts, strict=True):
        if verdict is not None:
            votes[asking.comparison, asking.vote][asking.swapped] = verdict
    of_small: _Grades = defaultdict(list)
    of_large: _Grades = defaultdict(list)
    for (pair, _), orders in votes.items():
        if len(orders) == 2:
            of_small[pair.row, pair.small] += [orders[False][0], orders[True][1]]
            of_large[pair.row, pair.large] += [orders[False][1], orders[True][0]]
    return of_small, of_large


def _qualities(grades: _Grades, answers: Answers) -> Qualities:
    return [
        [quality_of(grades.get((row, place), ())) for place in range(len(texts))] for row, texts in enumerate(answers)
    ]
