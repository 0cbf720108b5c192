"""The picture of a router: quality against cost advantage, between each model alone, beside random and oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_batch.reports.pictures import QUIET, figure, quiet_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette: these three are told apart with any kind of colour vision, and by their lightness in print.
_ROUTER, _ORACLE, _RANDOM = "#0072B2", "#009E73", "#777777"


@dataclass(frozen=True)
class CurvePicture:
    """All that is drawn.  Arrays are float64 ``[m]`` over the same ascending ``share`` (0 to 1) of queries to small.

    ``router``, ``oracle`` are mean qualities; ``low`` and ``high`` bound the router's, where its distance to the
    large model alone is what is uncertain.  ``drops`` are percent lost at some shares, marked on the curve.
    """

    title: str
    subtitle: str
    small: str
    large: str
    share: np.ndarray
    router: np.ndarray
    low: np.ndarray
    high: np.ndarray
    oracle: np.ndarray
    drops: Mapping[float, float]


def curve_png(picture: CurvePicture) -> bytes:
    """The picture as PNG, 1280 x 800 points."""
    with figure() as (drawn, sink):
        axes = drawn.add_subplot()
        _frame(axes, picture)
        _models(axes, picture)
        _curves(axes, picture)
        _marks(axes, picture)
    return sink.getvalue()


def _frame(axes: Axes, picture: CurvePicture) -> None:
    axes.set_title(f"{picture.title}\n", loc="left", fontsize=13, fontweight="bold")
    axes.set_xlabel("cost advantage: share of queries answered by the small model")
    axes.set_ylabel("mean quality")
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 6), [f"{percent} %" for percent in range(0, 101, 20)])
    low, high = _span(picture)
    axes.set_ylim(low - 0.06 * (high - low), high + 0.10 * (high - low))
    quiet_frame(axes, picture.subtitle)


def _span(picture: CurvePicture) -> tuple[float, float]:
    every = np.concatenate([picture.router, picture.low, picture.high, picture.oracle])
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _models(axes: Axes, picture: CurvePicture) -> None:
    """Each model alone, as a line across the picture with its name on it."""
    large, small = float(picture.router[0]), float(picture.router[-1])
    better = max(large, small)
    for quality, name, x, side in ((large, picture.large, 0.99, "right"), (small, picture.small, 0.01, "left")):
        axes.axhline(quality, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        text = f"all to {name}: {quality:.3f}"
        _say(axes, text, (x, quality), up=quality == better, color=QUIET, ha=side, fontsize=8.5)


def _curves(axes: Axes, picture: CurvePicture) -> None:
    """Curves with their names on them, each where it is farthest from its neighbour."""
    share, router, oracle = picture.share, picture.router, picture.oracle
    random = np.interp(share, [0, 1], router[[0, -1]])
    axes.fill_between(share, picture.low, picture.high, color=_ROUTER, alpha=0.14, linewidth=0)
    axes.plot(share, random, color=_RANDOM, linewidth=1.6, linestyle=(0, (5, 3)))
    axes.plot(share, oracle, color=_ORACLE, linewidth=1.8)
    axes.plot(share, router, color=_ROUTER, linewidth=2.6)
    top = _within(share, oracle - router, 0.3, 0.7)
    _say(axes, "oracle", (share[top], oracle[top]), up=True, color=_ORACLE, fontweight="bold")
    low = _within(share, router - random, 0.5, 0.75)
    _say(axes, "random", (share[low], random[low]), up=False, color=_RANDOM, fontweight="bold")
    mid = _within(share, oracle - router, 0.55, 0.85)
    _say(axes, "router", (share[mid], picture.high[mid]), up=True, color=_ROUTER, fontweight="bold")


def _within(share: np.ndarray, distance: np.ndarray, low: float, high: float) -> int:
    """The place of the largest ``distance`` between two shares."""
    return int(np.argmax(np.where((share >= low) & (share <= high), distance, -np.inf)))


def _marks(axes: Axes, picture: CurvePicture) -> None:
    """Dots where drops are read off, with the percent that is lost (or won) there."""
    for share, drop in picture.drops.items():
        quality = float(np.interp(share, picture.share, picture.router))
        axes.plot([share], [quality], "o", color=_ROUTER, markersize=7, markeredgecolor="white", zorder=4)
        text = f"{-drop:+.1f} %".replace("-", "\N{MINUS SIGN}")
        _say(axes, text, (share, quality), up=False, away=9, color=_ROUTER, fontsize=9)


def _say(axes: Axes, text: str, place: tuple[float, float], *, up: bool, away: int = 4, **style: Any) -> None:
    """``text`` just above or below ``place``, with a white rim so that lines may pass behind it."""
    from matplotlib.patheffects import withStroke

    style = {"ha": "center", "zorder": 5, **style}
    axes.annotate(
        text, place, (0, away if up else -away), textcoords="offset points", va="bottom" if up else "top",
        path_effects=[withStroke(linewidth=3, foreground="white")], **style,
    )  # fmt: skip
