"""The commit protocol under crashes, lost answers, duplicates, zombies and late writers.

The invariants and their numbers stand in ``docs/architecture.md``, The commit protocol.
"""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.records import ShardId
from hybrid_batch.engines.base import Sampling
from hybrid_batch.ledger import Ledger
from hybrid_batch.spark.tasks import GenerateTask
from tests.support.protocol_mutants import (
    MUTANTS,
    LosersBillToo,
    ManifestBeforeReports,
    NobodyLooks,
    ResultsAreReplaced,
)
from tests.support.protocol_night import DRIVER, LOOK, Night
from tests.support.protocol_objects import Violation
from tests.support.protocol_search import begin, explore, finish, quiet
from tests.support.protocol_world import FINE, Move, State, World

TINY = Night()
"""One plan, one part, two shards: whichever of the two splits that drivers want is committed."""


@pytest.mark.parametrize(
    ("attempts", "drivers", "faults", "lookers"),
    [(1, 2, 0, 0), (2, 1, 0, 1), (1, 1, 1, 1)],
    ids=["two drivers", "two attempts and a look", "a fault and a look"],
)
def test_every_order_of_events_of_a_tiny_night(attempts, drivers, faults, lookers, record_property):
    world = World(TINY, attempts)
    found = explore(world, begin(world, drivers, faults, lookers))
    record_property("found", str(found))
    print(found)
    assert found.ends > 1
    assert found.states > 1_000


def test_what_is_left_out_makes_no_difference():
    """A search that permutes all steps meets the same sets of objects and the same ends, by more ways."""
    world = World(Night(part_rows=2))
    reduced, full = (explore(world, begin(world, drivers=1, faults=1), reduced) for reduced in (True, False))
    assert full.states > reduced.states
    assert (full.objects, full.ends) == (reduced.objects, reduced.ends)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_protocol_with_one_thing_wrong_is_found_out(mutant):
    night, number = MUTANTS[mutant]
    world = World(night, attempts=1)
    with pytest.raises(Violation) as caught:
        explore(world, begin(world, drivers=2, faults=0 if night.own_prices else 1))
    assert caught.value.number in {number, 8}, caught.value


class Walk(RuleBasedStateMachine):
    """A larger night, any number of drivers two at a time, any number of looks, and ten faults."""

    world: ClassVar = World(Night(parts=2, looks=True), attempts=2)

    def __init__(self) -> None:
        super().__init__()
        self.state = begin(self.world, drivers=1, faults=10)
        self.is_whole = True

    def moves(self, fine: bool) -> list[Move]:
        return [move for move in self.world.moves(self.state) if (move.how == FINE) == fine]

    def do(self, move: Move) -> None:
        self.is_whole = False
        self.state = self.world.apply(self.state, move)
        self.is_whole = True

    def awake(self, kind: str) -> int:
        return sum(one.actor.kind == kind for one in self.state.running)

    @precondition(lambda self: self.moves(True))
    @rule(pick=st.integers(0, 99), steps=st.integers(1, 9))
    def go_on(self, pick: int, steps: int) -> None:
        """One actor takes a few steps, as far as it can."""
        index = (moves := self.moves(True))[pick % len(moves)].index
        for _ in range(steps):
            if Move(index) not in self.moves(True):
                break
            self.do(Move(index))

    @precondition(lambda self: self.moves(False))
    @rule(pick=st.integers(0, 99))
    def fail(self, pick: int) -> None:
        """Something dies, or gets no answer."""
        self.do((moves := self.moves(False))[pick % len(moves)])

    @precondition(lambda self: self.awake(DRIVER) < 2)
    @rule()
    def start_another_driver(self) -> None:
        self.state = self.world.start(self.state)

    @precondition(lambda self: self.awake(LOOK) < 2)
    @rule()
    def look(self) -> None:
        self.state = self.world.start(self.state, LOOK)

    def teardown(self) -> None:
        """Everybody who is awake goes on, the youngest first; late ones find a finished run then."""
        if not self.is_whole:
            return
        while moves := self.moves(True):
            self.do(moves[-1])
        quiet(self.world, self.state)
        assert finish(self.world, State(self.state.objects)).objects == self.state.objects


LONG = settings(max_examples=60, stateful_step_count=80)
TestWalk = Walk.TestCase
TestWalk.settings = LONG


@pytest.mark.parametrize("mutant", [ResultsAreReplaced, LosersBillToo, ManifestBeforeReports, NobodyLooks])
def test_long_walks_find_it_out_too(mutant):
    class Wrong(Walk):
        world = World(mutant(parts=2, looks=True), attempts=2)

    with pytest.raises(Violation):
        run_state_machine_as_test(Wrong, settings=settings(LONG, max_examples=200, phases=[Phase.generate]))


def test_drivers_with_other_prices_agree_in_the_end():
    """The manifest that was first holds, and the reports say the same, unless the loser dies before it has seen it."""
    world = World(Night(own_prices=True))
    assert explore(world, begin(world, drivers=2)).ends > 1


def test_an_attempt_that_comes_late_asks_nothing(tmp_path):
    """The real task: there is no routed shard, no engine and no model here, so anything but a look would fail."""
    shard, layout = ShardId("small", 0), RunLayout(str(tmp_path / "run"))
    world = World(TINY)
    state = finish(world, State())
    for url, number in state.objects:
        if "/routed/small" not in url and "tier=small" in url:
            ledger = Ledger(layout)
            ledger.put_report(url.replace("/out/runs/night-0123456789ab", layout.root), world.objects.contents[number])
    task = GenerateTask(layout, [shard], None, Sampling(), None)
    (told,) = task(0)
    assert told.to_pylist()[0]["committed"] is False
    assert told.to_pylist()[0]["rows"] > 0
