"""Every order of events of a small night, each state once."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.protocol_night import LAYOUT, LOOK, Night
from tests.support.protocol_objects import Violation
from tests.support.protocol_world import FINE, MOST_DRIVERS, Move, State, World, show


@dataclass
class Found:
    """What a search saw: states, moves between them, states in which everybody has ended, all sets of objects."""

    states: int = 0
    moves: int = 0
    ends: int = 0
    objects: set[frozenset[tuple[str, int]]] = field(default_factory=set, repr=False)

    def __str__(self) -> str:
        return (
            f"{self.states:,} states, {self.moves:,} moves, {len(self.objects):,} sets of objects, {self.ends:,} ends"
        )


def begin(world: World, drivers: int = 2, faults: int = 0, lookers: int = 0) -> State:
    """Nothing is there, and ``drivers`` start at once."""
    state = State(faults=faults)
    for _ in range(drivers):
        state = world.start(state)
    for _ in range(lookers):
        state = world.start(state, LOOK)
    return state


def explore(world: World, first: State, reduced: bool = True) -> Found:
    """Go through all states that can follow ``first``.

    From the objects of each, a driver that is started alone must finish the run.  ``reduced`` looks at a move alone
    where :meth:`World.sure` has one.  Raises ``Violation`` with the moves that lead there.
    """
    found, seen = Found(), {first.key}
    trail: list[tuple[State, Iterator[Move], str]] = [(first, _moves(world, first, reduced), "")]
    while trail:
        state, moves, _ = trail[-1]
        move = next(moves, None)
        if move is None:
            trail.pop()
            continue
        try:
            after = world.apply(state, move)
            found.moves += 1
            if after.key in seen:
                continue
            seen.add(after.key)
            if after.objects not in found.objects:
                found.objects.add(after.objects)
                finish(world, State(after.objects))
            trail.append((after, _moves(world, after, reduced), show(state, move)))
            found.ends += not after.running
            if not any(True for _ in world.moves(after)):
                quiet(world, after)
                world.objects.check_bill(after.held)
        except Violation as violation:
            path = [line for _, _, line in trail[1:]] + [show(state, move)]
            raise Violation(violation.number, "\n  ".join([str(violation), *path])) from violation
    found.states = len(seen)
    return found


def _moves(world: World, state: State, reduced: bool) -> Iterator[Move]:
    sure = world.sure(state) if reduced else None
    return world.moves(state) if sure is None else iter([sure])


def quiet(world: World, state: State) -> None:
    """Nothing more can happen: no driver waits for ever, and the run is finished."""
    if state.running:
        raise Violation(10, f"{state.running[0].actor.name} waits for ever")
    if LAYOUT.manifest not in state.held:
        raise Violation(10, "all drivers have ended, and the run is not finished")


def finish(world: World, state: State) -> State:
    """Let one new driver, with nobody beside it, do what is left.  Raises ``Violation`` if the run is not finished."""
    state = world.start(State(state.objects, drivers=MOST_DRIVERS - 5))
    while moves := [move for move in world.moves(state) if move.how == FINE]:
        state = world.apply(state, moves[0])
    quiet(world, state)
    return state


CONFIGURATIONS = ((1, 2, 1, 0), (2, 1, 1, 0), (1, 1, 2, 0), (1, 1, 1, 1))
"""Attempts at each shard for each driver, drivers at once, faults, others who look."""


def main() -> int:
    """Search the larger of the tiny nights: ``make check-protocol``."""
    figures = []
    for attempts, drivers, faults, lookers in CONFIGURATIONS:
        world, started = World(Night(), attempts), time.monotonic()
        found = explore(world, begin(world, drivers, faults, lookers))
        asked = {"attempts": attempts, "drivers": drivers, "faults": faults, "looks": lookers}
        print(f"{asked}: {found}, {time.monotonic() - started:.0f} s", flush=True)
        figures.append({**asked, "states": found.states, "moves": found.moves, "ends": found.ends})
    print(json.dumps({"violations": 0, "states": sum(one["states"] for one in figures), "nights": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
