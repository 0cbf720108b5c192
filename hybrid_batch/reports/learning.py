"""Pictures of a training: how the relaxation t* was found, and how the losses of fine-tuned members fell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hybrid_batch.core.labels import TStar
from hybrid_batch.reports.pictures import QUIET, figure, quiet_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, as in reports/curves.
_LINES: Final = ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#E69F00")


@dataclass(frozen=True)
class History:
    """Losses of one fine-tuning, by step; ``best`` is the step whose weights were kept."""

    seed: int
    step: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    best: int

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> History:
        """From what a card says of a fine-tuned member."""
        step, train, validation = (
            np.array([entry[name] for entry in told["history"]], float) for name in ("step", "train", "validation")
        )
        return cls(told["seed"], step, train, validation, told["best_step"])


def t_star_png(found: TStar) -> bytes:
    """Spread of the labels against t, with the chosen t*, as PNG (1280 x 800 points)."""

    def draw(axes: Axes) -> None:
        axes.set_xlabel("relaxation t: the small model may be this much worse")
        axes.set_ylabel("mean difference of two labels")
        top = float(found.spread[int(np.argmax(found.spread))])
        axes.plot(found.candidates, found.spread, color=_LINES[0], linewidth=2.2)
        axes.axvline(found.t, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.plot([found.t], [top], "o", color=_LINES[0], markersize=9)
        right = found.t <= float(found.candidates.mean())
        axes.annotate(
            f"t* = {found.t:.4g}", (found.t, top), (10 if right else -10, 0), textcoords="offset points",
            ha="left" if right else "right", va="bottom", fontweight="bold", color=_LINES[0],
        )  # fmt: skip

    subtitle = f"{len(found.candidates):,} values of t were tried; the labels differ most at t*"
    return _png("Relaxation of trans labels", subtitle, draw)


def learning_png(histories: Sequence[History]) -> bytes:
    """Losses of fine-tuned members against the step, with the step that was kept, as PNG (1280 x 800 points)."""

    def draw(axes: Axes) -> None:
        axes.set_xlabel("step")
        axes.set_ylabel("cross-entropy of the score")
        for number, history in enumerate(histories):
            colour = _LINES[number % len(_LINES)]
            axes.plot(history.step, history.train, color=colour, linewidth=1.6, linestyle=(0, (5, 3)))
            axes.plot(history.step, history.validation, color=colour, linewidth=2.6)
            kept = history.validation[history.step == history.best]
            axes.plot([history.best] * len(kept), kept, "o", color=colour, markersize=8)
        _names(axes, histories)

    return _png("Fine-tuning", "dashed: training rows; whole lines: stop rows; dots: the weights that were kept", draw)


def _names(axes: Axes, histories: Sequence[History]) -> None:
    """The seed at the end of each line of stop rows, moved apart where two lines end close together."""
    low, high = axes.get_ylim()
    place = -np.inf
    for number, history in sorted(enumerate(histories), key=lambda one: float(one[1].validation[-1])):
        end = float(history.validation[-1])
        place = max(end, place + 0.045 * (high - low))
        axes.annotate(
            f"  seed {history.seed}", (history.step[-1], end), (history.step[-1], place), va="center",
            color=_LINES[number % len(_LINES)], annotation_clip=False, fontweight="bold",
        )  # fmt: skip


def _png(title: str, subtitle: str, draw: Callable[[Axes], None]) -> bytes:
    with figure() as (drawn, sink):
        axes = drawn.add_subplot()
        axes.set_title(f"{title}\n", loc="left", fontsize=13, fontweight="bold")
        quiet_frame(axes, subtitle)
        draw(axes)
    return sink.getvalue()
