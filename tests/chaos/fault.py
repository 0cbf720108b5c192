"""One fault: the scene it needs, what it does there, and what it may cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.outcome import Outcome, judge
from tests.chaos.scene import ANSWER_TOKENS, SHARD, Scene, on_folder
from tests.chaos.stage import Stage
from tests.support.jobs import REFUSED_ROWS

SMALL_OVERHEAD = 1.02
"""Tokens of a run, in those of a clean one, where nothing under way was lost."""


@dataclass(frozen=True)
class Fault:
    """``act`` starts the run in the scene that ``set_up`` makes, and breaks what is to be broken.

    ``shards_lost`` are the most shards that are under way when it happens, and so are answered again: their tokens
    are what the fault may cost.  None where the run is answered by two at once.  ``failed`` rows have an error in the
    end.  ``tokens`` counts what the engines generated where they write down nothing themselves.
    """

    name: str
    what: str
    act: Callable[[Scene], None]
    set_up: Callable[[Stage, str], Scene] = on_folder
    shards_lost: int | None = 0
    failed: int = 0
    tokens: Callable[[Scene], int] | None = None

    def happen(self, stage: Stage) -> Outcome:
        """Let it happen to a run -> what came of it.

        Raises ``AssertionError`` if the run never comes to the fault, or never ends; ``Missing`` if this machine lacks
        what the fault needs.
        """
        scene, began = self.set_up(stage, self.name), time.monotonic()
        try:
            self.act(scene)
            seconds = scene.finish()
            total = time.monotonic() - began
            tokens = self.tokens(scene) if self.tokens else None
            left = scene.end_drivers()
            return judge(self.name, scene, seconds, left, total, self._failed_in(scene), tokens)
        finally:
            scene.close()

    def may_cost(self, clean: int) -> int | None:
        """The most tokens that its run may generate where a clean one generates ``clean``; None for no bound."""
        if self.shards_lost is None:
            return None
        return max(int(clean * SMALL_OVERHEAD), clean + self.shards_lost * SHARD * ANSWER_TOKENS)

    def _failed_in(self, scene: Scene) -> int:
        refused = sum(not (row["prompt"] or "").strip() for row in scene.rows)
        assert refused in (0, REFUSED_ROWS)
        return refused + self.failed
