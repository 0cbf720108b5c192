"""The pictures of ``benchmarks.routing``: quality against cost advantage of all methods, and what t* does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.routing_trans import KINDS, TransStudy
from hybrid_batch.core.labels import Qualities
from hybrid_batch.core.metrics import COST_ADVANTAGES, Curve, cost_curve, oracle_curve, random_curve
from hybrid_batch.reports.pictures import QUIET, figure, quiet_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette: told apart with any kind of colour vision.
_COLOURS = {
    "oracle": "#009E73", "ours": "#0072B2", "vectors": "#56B4E9", "linear": "#E69F00", "knn": "#CC79A7",
    "floor": "#D55E00", "random": "#777777", "ensemble": "#000000", "finetuned": "#8c6bb1",
}  # fmt: skip
_NAMES = {
    "oracle": "oracle", "ours": "ours", "vectors": "ours, vector alone", "linear": "linear head, det (paper)",
    "knn": "nearest neighbours", "floor": "TF-IDF and logistic regression", "random": "random",
    "ensemble": "ours and fine-tuned", "finetuned": "fine-tuned encoder",
}  # fmt: skip


def curves_png(title: str, q: Qualities, scores: Mapping[str, np.ndarray]) -> bytes:
    """Quality against cost advantage of the methods in ``scores`` (each ``[n]``), between random and oracle."""
    curves = {name: cost_curve(one, q) for name, one in scores.items() if name not in ("random", "oracle")}
    bounds = {"oracle": oracle_curve(q), "random": random_curve(q)}
    with figure(8.6, 5.2) as (drawn, sink):
        axes = drawn.add_subplot()
        _frame(axes, _title(title), f"mean quality of {len(q):,} test queries")
        axes.set_xlabel("cost advantage: share of queries answered by the small model")
        _percent_axis(axes)
        for name, curve in (bounds | curves).items():
            _line(axes, name, curve)
        _large_alone(axes, float(q.mean_large.mean()))
        _limits(axes, [*curves.values(), bounds["random"]], bounds["oracle"])
        _legend(axes, [name for name in _COLOURS if name in bounds | curves])
    return sink.getvalue()


def trans_png(study: TransStudy) -> bytes:
    """The labels before and after the relaxation, how t* was found, and the drop by kind of label."""
    with figure(11.5, 4.2) as (drawn, sink):
        gaps, spread, drops = drawn.subplots(1, 3)
        _gaps(gaps, study)
        _spread(spread, study)
        _drops(drops, study)
    return sink.getvalue()


def _frame(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    quiet_frame(axes, subtitle)


def _title(name: str) -> str:
    return name.replace("->", " \N{RIGHTWARDS ARROW} ") + "\n"


def _percent_axis(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 6), [f"{percent} %" for percent in range(0, 101, 20)])


def _line(axes: Axes, name: str, curve: Curve) -> None:
    style: dict[str, Any] = {"linewidth": 1.5, "zorder": 2}
    if name == "random":
        style["linestyle"] = (0, (5, 3))
    if name == "ours":
        style = {"linewidth": 2.8, "zorder": 4}
    axes.plot(curve.share, curve.quality, color=_COLOURS[name], label=_NAMES[name], **style)


def _large_alone(axes: Axes, quality: float) -> None:
    axes.axhline(quality, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    axes.annotate(
        f"all to the large model: {quality:.3f}", (0.995, quality), (0, 3), textcoords="offset points",
        ha="right", va="bottom", fontsize=8.5, color=QUIET,
    )  # fmt: skip


def _limits(axes: Axes, curves: list[Curve], oracle: Curve) -> None:
    """The oracle may leave the picture at the top: between the routers is what is to be seen."""
    values = np.concatenate([curve.quality for curve in curves])
    low, high = float(values.min()), float(values.max())
    room = (high - low) or 1.0
    axes.set_ylim(low - 0.06 * room, min(float(oracle.quality.max()) + 0.04 * room, high + 0.35 * room))


def _legend(axes: Axes, order: list[str]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    places = [labels.index(_NAMES[name]) for name in order]
    axes.legend(
        [handles[place] for place in places], [labels[place] for place in places],
        loc="lower left", frameon=False, fontsize=9,
    )  # fmt: skip


def _gaps(axes: Axes, study: TransStudy) -> None:
    gap, t = study.q.gap, study.t_star.t
    before, after = (gap >= 0).mean(), (gap >= -t).mean()
    _frame(axes, _title(study.case.name), "queries by quality gap: small less large")
    edges = np.linspace(min(-1.0, gap.min()), max(1.0, gap.max()), 33)
    counts, _ = np.histogram(gap, edges)
    middles = (edges[1:] + edges[:-1]) / 2
    good = np.where(middles >= 0, _COLOURS["ours"], np.where(middles >= -t, _COLOURS["vectors"], "#cccccc"))
    axes.bar(middles, counts, width=0.9 * np.diff(edges), color=good)
    axes.axvline(-t, color=_COLOURS["floor"], linewidth=1.4)
    top = float(counts.max())
    axes.set_ylim(0, 1.3 * top)
    axes.text(
        -t - 0.03,
        1.26 * top,
        f"\N{MINUS SIGN}t* = \N{MINUS SIGN}{t:.2f}",
        color=_COLOURS["floor"],
        ha="right",
        va="top",
    )
    axes.text(0.98, 0.96, f"label 1: {before:.0%} with t = 0\nlabel 1: {after:.0%} with t*", transform=axes.transAxes,
              ha="right", va="top", fontsize=9, color=_COLOURS["ours"])  # fmt: skip
    axes.set_xlabel("quality gap")


def _spread(axes: Axes, study: TransStudy) -> None:
    found = study.t_star
    best = int(np.argmax(found.spread))
    _frame(axes, "\n", "mean difference of two labels, by relaxation t")
    axes.plot(found.candidates, found.spread, color=_COLOURS["ours"], linewidth=2, drawstyle="steps-post")
    axes.plot([found.t], [found.spread[best]], "o", color=_COLOURS["floor"], markersize=7, markeredgecolor="white")
    axes.annotate(f"t* = {found.t:.2f}", (found.t, found.spread[best]), (0, 7), textcoords="offset points",
                  ha="center", color=_COLOURS["floor"])  # fmt: skip
    axes.set_ylim(0, 1.18 * float(found.spread.max()))
    axes.set_xlabel("relaxation t")


def _drops(axes: Axes, study: TransStudy) -> None:
    _frame(axes, "\n", "drop by kind of label, percent (less is better)")
    colours = ("#E69F00", "#CC79A7", _COLOURS["vectors"], _COLOURS["ours"])
    places = np.arange(len(COST_ADVANTAGES))
    for number, (kind, colour) in enumerate(zip(KINDS, colours, strict=True)):
        at = places + (number - 1.5) * 0.2
        axes.bar(at, study.drops[kind], width=0.18, color=colour, label=kind, yerr=study.error[kind],
                 error_kw={"ecolor": QUIET, "elinewidth": 1})  # fmt: skip
    for place, drop in zip(places, study.random, strict=True):
        axes.plot([place - 0.42, place + 0.42], [drop, drop], color=_COLOURS["random"], linestyle=(0, (4, 2)),
                  label="random" if place == 0 else None)  # fmt: skip
    axes.set_xticks(places, [f"{share:.0%} to small" for share in COST_ADVANTAGES])
    axes.legend(loc="upper left", frameon=False, fontsize=9)
