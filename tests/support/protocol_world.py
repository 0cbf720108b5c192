"""All that can happen to a night: any actor takes the next step, dies before it, or gets no answer to it.

A state is a value; a move leads from one to the next, and each move is checked against the invariants of
``docs/architecture.md`` (The commit protocol), whose numbers the messages begin with.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from hybrid_batch.core.errors import SparkError
from hybrid_batch.core.records import ShardId
from hybrid_batch.storage import ObjectInfo
from tests.support.protocol_night import ANSWER, DRIVER, LAYOUT, SCORE, Actor, Night, Part
from tests.support.protocol_objects import Objects, Violation
from tests.support.protocol_steps import PAY, READS, STAGE, Place, Stage, Step, lost

FINE: Final = "goes on"
DIES: Final = "dies"
LOST: Final = "writes, and is told of a failure"
TWICE: Final = "writes, and is told that it was there"
MOST_DRIVERS: Final = 50


@dataclass(frozen=True, eq=False)
class Running:
    """An actor that is awake, and where it stands.

    ``late``: an attempt whose shard was committed before its first step.  ``done``: units of the stage that a driver
    waits for, of which an attempt has succeeded.
    """

    actor: Actor
    place: Place
    late: bool = False
    done: frozenset[Hashable] = frozenset()

    @cached_property
    def key(self) -> Hashable:
        return (self.place.number, self.late, self.done)


@dataclass(frozen=True, eq=False)
class State:
    """``objects`` are ``(url, number of the content)``; ``faults`` may still happen; ``drivers`` were ever started.

    Who has ended is left out, and where it has led to.
    """

    objects: frozenset[tuple[str, int]] = frozenset()
    running: tuple[Running, ...] = ()
    faults: int = 0
    drivers: int = 0

    @cached_property
    def held(self) -> dict[str, int]:
        return dict(self.objects)

    @cached_property
    def key(self) -> Hashable:
        """Equal for states that nobody can tell apart."""
        return (self.objects, frozenset(one.key for one in self.running), self.faults)


@dataclass(frozen=True)
class Move:
    """The actor at ``index`` takes its next step, and how that goes."""

    index: int
    how: str = FINE


@dataclass
class World:
    """Moves between states of one ``night``.  A stage starts ``attempts`` tasks for each unit."""

    night: Night = field(default_factory=Night)
    attempts: int = 1
    places: int = 0
    _roots: dict[Actor, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.objects = Objects(self.night)

    def start(self, state: State, kind: str = DRIVER) -> State:
        """One more driver, or somebody who looks.  Raises ``Violation`` where drivers fail for no reason."""
        if state.drivers > MOST_DRIVERS:
            raise Violation(10, "the same command fails again and again")
        actor = Actor(kind, f"{kind} {state.drivers}")
        return self._with(State(state.objects, state.running, state.faults, state.drivers + 1), [actor])

    def moves(self, state: State) -> Iterator[Move]:
        """Everything that can happen next."""
        for index, one in enumerate(state.running):
            step = one.place.next
            if not self._is_waiting(state, index):
                yield Move(index)
            if state.faults:
                yield Move(index, DIES)
                if step.kind in ("put", "put_if_absent", "delete"):
                    yield Move(index, LOST)
                if step.kind == "put_if_absent" and step.url not in state.held:
                    yield Move(index, TWICE)

    def sure(self, state: State) -> Move | None:
        """A move that changes nothing that others see, and sees nothing that others change: when it happens makes no
        difference, so that it may be the only one that is looked at.  (Objects are written once: until that is
        violated, what was read once is always read.)"""
        return next((Move(index) for index in range(len(state.running)) if self._is_sure(state, index)), None)

    def _is_sure(self, state: State, index: int) -> bool:
        one = state.running[index]
        step = one.place.next
        if one.actor.kind == ANSWER and not one.place.answers:
            return False  # Whether an attempt begins before or after a commit is what invariant 7 is about.
        match step.kind:
            case "put_if_absent":
                return step.url in state.held
            case "put":
                return state.held.get(step.url) == self.objects.number(step.data)
            case "list":
                return self.objects.is_full(state.held, step.url)
            case "stage":
                return not self._is_waiting(state, index)
            case "pay":
                return True
        return step.url in state.held and step.url != LAYOUT.success

    def apply(self, state: State, move: Move) -> State:
        """The state after ``move``.  Raises ``Violation``."""
        one = state.running[move.index]
        faults = state.faults - (move.how != FINE)
        if move.how == DIES:
            return self._gone(State(state.objects, state.running, faults, state.drivers), move.index, again=True)
        step = one.place.next
        late = one.late or (not one.place.answers and self._is_committed(state, one.actor))
        if step.kind == PAY and late:
            raise Violation(7, f"{one.actor.name} began after its shard was committed, and has it answered again")
        objects = self.objects.after(state.held, step)
        answer, known_as = self._answer(state, move, step)
        place = one.place.after(answer, known_as, self._number)
        after = State(state.objects if objects is None else objects, state.running, faults, state.drivers)
        if objects is not None:
            self.objects.check(after.held)
        return self._at(after, move.index, Running(one.actor, place, late))

    def _number(self) -> int:
        self.places += 1
        return self.places

    def _is_committed(self, state: State, actor: Actor) -> bool:
        return actor.kind == ANSWER and LAYOUT.results(actor.unit) in state.held

    def _answer(self, state: State, move: Move, step: Step) -> tuple[Any, Any]:
        """What ``step`` comes back with, and a name for it."""
        if move.how == LOST:
            return lost(step.url), LOST
        if step.kind in ("put", "delete", PAY):
            return None, None
        if step.kind == STAGE:
            failed = self._has_failed(state, move.index)
            return (SparkError("a task failed too often") if failed else None), failed
        if step.kind == "put_if_absent":
            written = step.url not in state.held and move.how != TWICE
            return written, written
        if step.kind == "list":
            below = sorted(pair for pair in state.objects if pair[0].startswith(f"{step.url}/"))
            return [self._info(*pair) for pair in below], tuple(below)
        number = state.held.get(step.url)
        return self._read(step, number), number

    def _read(self, step: Step, number: int | None) -> Any:
        assert step.kind in READS
        if step.kind == "stat":
            return None if number is None else self._info(step.url, number)
        if number is None:
            return None if step.kind == "read_if_present" else lost(step.url)
        return self.objects.contents[number]

    def _info(self, url: str, number: int) -> ObjectInfo:
        return ObjectInfo(url, len(self.objects.contents[number]), str(number))

    def _at(self, state: State, index: int, one: Running) -> State:
        """``state`` with ``one`` at ``index``; what follows from where it stands happens at once."""
        at = one.place.next
        if isinstance(at, Step):
            running = (*state.running[:index], one, *state.running[index + 1 :])
            state = State(state.objects, running, state.faults, state.drivers)
            return self._with(state, self._tasks(one.actor, at.data)) if at.kind == STAGE else state
        if isinstance(at.value, Part):
            actor = replace(one.actor, unit=at.value.number, told=at.value.told)
            return self._at(state, index, Running(actor, self._root(actor)))
        if one.actor.kind == DRIVER and at.error is None:
            self.objects.check_told(state.held, at.value)
        return self._gone(state, index, again=at.error is not None)

    def _gone(self, state: State, index: int, again: bool) -> State:
        """``state`` without the actor at ``index``; a driver that did not end well is started ``again``."""
        actor = state.running[index].actor
        running = [*state.running[:index], *state.running[index + 1 :]]
        if not again:
            running = [self._told(one, actor) for one in running]
        state = State(state.objects, tuple(running), state.faults, state.drivers)
        return self.start(state) if again and actor.kind == DRIVER else state

    def _told(self, one: Running, task: Actor) -> Running:
        """``one`` when it has heard that ``task`` succeeded: its driver keeps that while it waits for it."""
        stage = one.place.next
        if one.actor.name != task.driver or stage.kind != STAGE or task.unit not in stage.data.units:
            return one
        return Running(one.actor, one.place, one.late, one.done | {task.unit})

    def _tasks(self, driver: Actor, stage: Stage) -> list[Actor]:
        """The attempts that ``driver`` hands out."""
        return [
            Actor(stage.kind, _named(stage.kind, unit, driver, attempt), driver.name, unit, stage.told)
            for unit in stage.units
            for attempt in range(self.attempts if stage.kind == ANSWER else 1)
        ]

    def _with(self, state: State, actors: Sequence[Actor]) -> State:
        started = [Running(actor, self._root(actor)) for actor in actors]
        return State(state.objects, (*state.running, *started), state.faults, state.drivers)

    def _root(self, actor: Actor) -> Place:
        if actor not in self._roots:
            self._roots[actor] = Place(self.night.program(actor), number=self._number())
        return self._roots[actor]

    def _is_waiting(self, state: State, index: int) -> bool:
        """True for a driver that waits for its stage."""
        one = state.running[index]
        if one.place.next.kind != STAGE:
            return False
        left = frozenset(one.place.next.data.units) - one.done
        return bool(left) and not self._has_failed(state, index)

    def _has_failed(self, state: State, index: int) -> bool:
        """True if a unit of the driver's stage has no attempt left."""
        one = state.running[index]
        tried = {other.actor.unit for other in state.running if other.actor.driver == one.actor.name}
        return not tried | one.done >= frozenset(one.place.next.data.units)


def _named(kind: str, unit: Any, driver: Actor, attempt: int) -> str:
    what = f"{unit.tier} {unit.number}" if isinstance(unit, ShardId) else f"part {unit}" if kind == SCORE else "shards"
    return f"attempt {attempt} to {kind} {what} for {driver.name}"


def show(state: State, move: Move) -> str:
    """One line about ``move``."""
    one = state.running[move.index]
    step = one.place.next
    return f"{one.actor.name}: {step.kind} {step.url.removeprefix(LAYOUT.root)}: {move.how}"
