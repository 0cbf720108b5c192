"""One row in, one answer out, with an engine of a few lines that can die."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from hybrid_batch.core.errors import EngineDiedError
from hybrid_batch.engines.base import ChatAnswer, ChatRequest, Sampling
from hybrid_batch.stages.ask import ENGINE_DEATHS, ENGINE_KILLED, MOST_DEATHS, Asking, first_of_equals


@dataclass
class Echo:
    """Answers with the last turn's text, later rows first; dies for good after ``lives`` answers."""

    lives: int | None = None
    pauses: Callable[[int], int] = lambda number: 0
    asked: list[str] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        text = request.messages[-1]["content"]
        self.asked.append(text)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            for _ in range(self.pauses(len(self.asked))):
                await asyncio.sleep(0)
            if self.lives is not None:
                if self.lives == 0:
                    raise EngineDiedError("gone")
                self.lives -= 1
            return ChatAnswer(text, "stop", prompt_tokens=len(text), completion_tokens=1, latency_seconds=0.5)
        finally:
            self.under_way -= 1

    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class Poisoned(Echo):
    """Dies, with everything under way, of the texts in ``poison``."""

    poison: frozenset[str] = frozenset()

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        if request.messages[-1]["content"] in self.poison:
            raise EngineDiedError("killed")
        return await super().answer(request)


def requests(texts: Sequence[object], sampling: Sampling | None = None) -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": f"text {text}"}], sampling or Sampling()) for text in texts]


def asking(texts: Sequence[object], window: int, **further) -> Asking:
    return Asking(requests(texts), [f"q{number}" for number in range(len(texts))], window, **further)


def run(asked: Asking, engine: Echo) -> None:
    asyncio.run(asked.run(engine))


def as_a_task_does(asked: Asking, poison: frozenset[str]) -> list[Poisoned]:
    """A new engine after each death, until all is answered or there is no hope."""
    engines = []
    while not asked.finished:
        engines.append(Poisoned(pauses=lambda number: 2, poison=poison))
        try:
            run(asked, engines[-1])
        except EngineDiedError:
            if asked.hopeless:
                raise
    return engines


@pytest.mark.parametrize("window", [1, 3, 8, 50])
def test_answers_come_in_the_order_of_the_requests_and_the_window_is_never_exceeded(window):
    asked, engine = asking(range(30), window), Echo(pauses=lambda number: 40 - number)
    run(asked, engine)

    assert [answer.text for answer in asked.answers()] == [f"text {number}" for number in range(30)]
    assert engine.most_under_way == min(window, 30)
    assert sorted(engine.asked) == sorted(f"text {number}" for number in range(30))


def test_nothing_to_ask_asks_nothing():
    engine, asked = Echo(), asking([], 4)
    run(asked, engine)
    assert (engine.asked, asked.answers()) == ([], [])


def test_a_dead_engine_keeps_what_it_answered_and_only_the_rest_is_asked_again():
    asked = asking(range(20), 4)
    first, second = Echo(lives=7, pauses=lambda number: number % 5), Echo()
    with pytest.raises(EngineDiedError, match="gone"):
        run(asked, first)
    assert first.under_way == 0
    with pytest.raises(ValueError, match="without an answer"):
        asked.answers()

    run(asked, second)
    run(asked, second)
    assert [answer.text for answer in asked.answers()] == [f"text {number}" for number in range(20)]
    assert len(second.asked) == 20 - 7
    assert asked.deaths == 1


def test_an_error_of_one_row_is_data_and_stops_nobody():
    class Moody(Echo):
        async def answer(self, request: ChatRequest) -> ChatAnswer:
            if request.messages[-1]["content"] == "text 1":
                return ChatAnswer(error_kind="too_long", error_message="5000 tokens")
            return await super().answer(request)

    asked = asking(range(4), 2)
    run(asked, Moody())
    assert [answer.error_kind for answer in asked.answers()] == [None, "too_long", None, None]


@pytest.mark.parametrize("window", [1, 4, 64])
@pytest.mark.parametrize("bad", [(0,), (17,), (39,), (3, 4), (5, 21, 38)])
def test_rows_that_kill_engines_are_given_up_and_all_others_are_answered(window, bad):
    asked = asking(range(40), window)
    engines = as_a_task_does(asked, frozenset(f"text {number}" for number in bad))

    answers = asked.answers()
    assert [number for number, answer in enumerate(answers) if answer.error_kind == ENGINE_KILLED] == list(bad)
    assert all(answers[number].text == f"text {number}" for number in range(40) if number not in bad)
    assert "killed" in answers[bad[0]].error_message
    answered = Counter(text for engine in engines for text in engine.asked)
    assert all(answered[f"text {number}"] >= 1 for number in range(40) if number not in bad)
    assert 2 <= asked.deaths <= ENGINE_DEATHS * len(bad)


def test_a_shard_of_one_row_that_kills_engines_gives_it_up():
    asked = asking([0], 8)
    as_a_task_does(asked, frozenset({"text 0"}))
    assert [answer.error_kind for answer in asked.answers()] == [ENGINE_KILLED]


def test_an_engine_that_dies_of_everything_is_not_the_rows_fault():
    asked = asking(range(40), 4)
    with pytest.raises(EngineDiedError):
        as_a_task_does(asked, frozenset(f"text {number}" for number in range(40)))
    assert asked.deaths == ENGINE_DEATHS + 1


def test_there_is_an_end_to_giving_up():
    asked = asking(range(100), 4)
    with pytest.raises(EngineDiedError):
        as_a_task_does(asked, frozenset(f"text {number}" for number in range(1, 100)))
    assert ENGINE_DEATHS < asked.deaths <= MOST_DEATHS + 1


def test_suspects_come_first_and_in_a_narrow_window():
    asked = asking(range(30), 9)
    with pytest.raises(EngineDiedError):
        run(asked, Echo(lives=0, pauses=lambda number: 1))
    assert asked.suspects
    calm = Echo(pauses=lambda number: 1)
    run(asked, calm)
    assert calm.asked == [f"text {number}" for number in range(9)]
    assert calm.most_under_way == 3
    assert (asked.suspects, asked.finished) == (False, False)
    run(asked, calm)
    assert asked.finished


def test_identical_requests_are_asked_once_and_use_tokens_once():
    asked, engine = asking(["a", "b", "a", "c", "a"], 2), Echo()
    run(asked, engine)

    assert sorted(engine.asked) == ["text a", "text b", "text c"]
    answers = asked.answers()
    assert [answer.text for answer in answers] == ["text a", "text b", "text a", "text c", "text a"]
    assert [answer.answered_by for answer in answers] == [None, None, "q0", None, "q0"]
    assert [answer.prompt_tokens for answer in answers] == [6, 6, 0, 6, 0]
    assert answers[2] == replace(
        answers[0], prompt_tokens=0, completion_tokens=0, latency_seconds=0.0, answered_by="q0"
    )


def test_identical_requests_are_asked_each_when_the_user_wants_it():
    asked, engine = asking(["a", "a"], 2, share=False), Echo()
    run(asked, engine)
    assert engine.asked == ["text a", "text a"]
    assert [answer.answered_by for answer in asked.answers()] == [None, None]


def test_requests_are_identical_only_without_chance_and_with_all_that_is_sent():
    cold, warm = Sampling(), Sampling(temperature=0.7, seed=3)
    same = requests(["a"]) * 2
    other = [replace(same[0], sampling=replace(cold, max_tokens=9)), replace(same[0], sampling=warm)]
    assert first_of_equals([*same, *other, other[1], other[0]]) == [0, 0, 2, 3, 4, 2]
    assert first_of_equals(requests("aa", replace(cold, temperature=None))) == [0, 1]


def test_the_deaths_of_a_neighbour_do_not_make_a_shard_hopeless():
    asked, deaths = asking(range(60), 4), 0
    while not asked.finished:
        try:
            run(asked, Echo(lives=None if asked.suspects else 5))
        except EngineDiedError:
            deaths += 1
            assert not asked.hopeless
    assert asked.deaths == deaths > ENGINE_DEATHS
    assert [answer.text for answer in asked.answers()] == [f"text {number}" for number in range(60)]


def test_a_failure_that_may_pass_is_not_shared():
    class Failing(Echo):
        async def answer(self, request: ChatRequest) -> ChatAnswer:
            answer = await super().answer(request)
            return ChatAnswer(error_kind="timeout") if len(self.asked) <= 2 else answer

    asked, engine = asking(["a"] * 5, 2), Failing()
    while not asked.finished:
        run(asked, engine)
    assert [answer.error_kind for answer in asked.answers()] == ["timeout", "timeout", None, None, None]
    assert [answer.answered_by for answer in asked.answers()] == [None, None, None, "q2", "q2"]
    assert len(engine.asked) == 3


def test_refused_rows_are_not_asked():
    refused = {row: ChatAnswer(error_kind="invalid_request") for row in (0, 1)}
    asked, engine = asking(["a", "a", "b"], 2, refused=refused), Echo()
    run(asked, engine)
    assert engine.asked == ["text b"]
    assert [answer.error_kind for answer in asked.answers()] == ["invalid_request", "invalid_request", None]


def test_rows_are_asked_in_the_order_that_is_given_and_answered_in_their_own():
    asked, engine = asking(range(4), 1, order=[2, 0, 3, 1]), Echo()
    run(asked, engine)
    assert engine.asked == ["text 2", "text 0", "text 3", "text 1"]
    assert [answer.text for answer in asked.answers()] == ["text 0", "text 1", "text 2", "text 3"]
