"""What all pictures share: colours, lettering, and a figure that becomes a PNG without a display."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, GRID = "#222222", "#666666", "#e6e6e6"
_DPI: Final = 160
_STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": "#bbbbbb",
    "axes.labelcolor": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "text.color": INK,
}


@contextmanager
def figure(width: float = 8.0, height: float = 5.0) -> Iterator[tuple[Figure, io.BytesIO]]:
    """A figure of ``width`` x ``height`` inches, and where its PNG (160 points an inch) lies when the block ends."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sink = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        # Without pyplot there is no global state, and no display is looked for.
        drawn = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn, sink
        drawn.savefig(sink, format="png", metadata={"Software": None})


def quiet_frame(axes: Axes, subtitle: str) -> None:
    """A subtitle, a pale grid behind the data, and no lines around it but the lower one."""
    axes.text(0, 1.02, subtitle, transform=axes.transAxes, fontsize=9, color=QUIET)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
