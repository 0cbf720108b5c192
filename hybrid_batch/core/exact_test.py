"""An exact test of a small mean loss from rows that lose, win or do neither.  Pure numpy.

A row that goes to the small model loses one answer (+1), wins one (-1) or does neither.  Over n rows the number lost
less the number won has a trinomial distribution, which is computed, not approximated.  Its nuisance parameter, how
often the two models differ at all, is bounded first and the worst case within the bound is taken (Berger and Boos
1994, *P values maximized over a confidence set for the nuisance parameter*).
"""

from __future__ import annotations

from typing import Final

import numpy as np

NUISANCE_ALPHA: Final = 0.001
"""Chance that is spent on a bound of a quantity that is not the tested one."""
_WORST_CASES: Final = np.linspace(0.5, 1.0, 6)


def p_value(lost: int, won: int, rows: int, allowed: float) -> float:
    """Evidence against "a row loses more than ``allowed`` on average", as a p-value.

    Of ``rows`` rows, ``lost`` and ``won`` go to small and change from right to wrong and back.  If the true mean is
    more than ``allowed``, the result is at most alpha with a chance of at most alpha, whatever alpha is.
    """
    differ = max(upper_bound(lost + won, rows, NUISANCE_ALPHA), abs(allowed))
    worst = max(
        _at_most(lost - won, rows, (share + allowed) / 2, (share - allowed) / 2)
        for share in np.maximum(_WORST_CASES * differ, abs(allowed))
    )
    return min(1.0, worst + NUISANCE_ALPHA)


def lower_bound(successes: int, rows: int, alpha: float) -> float:
    """The chance of a success is above this with confidence 1 - alpha (Clopper and Pearson 1934)."""
    return 1.0 - upper_bound(rows - successes, rows, alpha)


def upper_bound(successes: int, rows: int, alpha: float) -> float:
    """The chance of a success is below this with confidence 1 - alpha (Clopper and Pearson 1934)."""
    if successes >= rows:
        return 1.0
    low, high = successes / rows, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _binomial_at_most(successes, rows, middle) <= alpha else (middle, high)
    return high


def _at_most(limit: int, rows: int, lose: float, win: float) -> float:
    """P(lost - won <= limit) of ``rows`` rows with these chances, from the characteristic function."""
    angles = 2 * np.pi * np.fft.fftfreq(2 * rows + 1)
    each = lose * np.exp(-1j * angles) + max(win, 0.0) * np.exp(1j * angles) + (1.0 - lose - max(win, 0.0))
    chances = np.roll(np.fft.ifft(each**rows).real, rows)
    return float(np.clip(chances[: limit + rows + 1].sum(), 0.0, 1.0))


def _binomial_at_most(limit: int, rows: int, chance: float) -> float:
    if chance <= 0.0 or chance >= 1.0:
        return float(chance <= 0.0 or limit >= rows)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, rows + 1)))])
    k = np.arange(limit + 1)
    logs = log_factorials[rows] - log_factorials[k] - log_factorials[rows - k]
    return float(np.exp(logs + k * np.log(chance) + (rows - k) * np.log1p(-chance)).sum())
