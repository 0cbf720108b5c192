"""What a run leaves to keep: the cost table and the page."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser

import numpy as np
import pytest

from hybrid_batch.core.cost import EngineTimePrice, TokenPrice
from hybrid_batch.core.routing import GRID, ScoreHistogram
from hybrid_batch.reports.cost_table import cost_table
from hybrid_batch.reports.histogram import HEIGHT, WIDTH, chart
from hybrid_batch.reports.html import render_report
from hybrid_batch.tables import COST
from tests.support.outcomes import a_histogram, an_outcome

NOTHING = ScoreHistogram(np.array([], dtype=np.int64), np.array([], dtype=np.int64))


def by_group(histogram: ScoreHistogram) -> ScoreHistogram:
    """In steps of a hundredth, of each of which half of the rows, rounded down, go to small."""
    coarse = histogram.coarse()
    return replace(coarse, small=coarse.rows // 2)


class Page(HTMLParser):
    """Tags that were left open, all attributes, all text."""

    void = frozenset({"meta", "br", "rect", "line"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_the_cost_table_has_its_schema_and_exact_amounts() -> None:
    outcome = an_outcome(large=TokenPrice(Decimal("0.5"), Decimal(2)))
    table = cost_table(outcome)
    assert table.schema.equals(COST)
    small, large = table.to_pylist()
    assert (small["tier"], small["queries"], small["failed_queries"]) == ("small", 120, 2)
    assert (small["engine_seconds"], small["load_seconds"], small["engines"]) == (25.0, 13.0, 1)
    assert small["usd_per_engine_hour"] == Decimal("0.10")
    assert small["usd_per_million_prompt_tokens"] is None
    assert large["usd_per_million_completion_tokens"] == Decimal(2)
    assert large["usd"] == Decimal("0.023129000")
    assert small["run_usd"] == large["run_usd"] == small["usd"] + large["usd"]
    assert small["all_large_usd"] == outcome.counterfactual.usd
    assert small["all_large_method"] == "large_token_price_x_tokens_of_both_tiers"


@pytest.mark.parametrize("scale", [0, 1])
def test_the_cost_table_without_prices(scale: int) -> None:
    for row in cost_table(an_outcome(scale, small=None, large=None)).to_pylist():
        assert row["usd"] is None
        assert row["all_large_usd"] is None
        assert row["usd_per_engine_hour"] is None


def test_a_price_with_many_digits_is_rounded_to_what_the_table_holds() -> None:
    price = EngineTimePrice(Decimal("0.12345678901234"))
    assert cost_table(an_outcome(small=price)).to_pylist()[0]["usd_per_engine_hour"] == Decimal("0.123456789")


@pytest.mark.parametrize(
    "outcome",
    [
        an_outcome(),
        an_outcome(0),
        an_outcome(20_000, errors={"prompt_too_long": 3}, rejected=4),
        an_outcome(small=None, large=None),
        an_outcome(small=EngineTimePrice(Decimal(9))),
        replace(an_outcome(), threshold=1.000001),
        replace(an_outcome(), threshold=0.0, manifest={}),
        replace(an_outcome(), threshold=1.000001, by="tenant", groups={"a": 0.5, "b": 1.000001}),
    ],
    ids=["usual", "empty", "errors", "no-prices", "loss", "all-large", "all-small", "by-group"],
)
@pytest.mark.parametrize(
    "histogram",
    [a_histogram(), NOTHING, a_histogram(5, 0.5, 0.5001), by_group(a_histogram())],
    ids=["wide", "none", "point", "by-group"],
)
def test_the_page_is_whole_and_needs_nothing_else(outcome: object, histogram: ScoreHistogram) -> None:
    html = render_report(outcome, histogram)  # type: ignore[arg-type]
    page = Page(html)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert not {"src", "href", "onload"} & {name for name, _ in page.attributes}
    assert not re.search(r"url\(|@import|https?://", html)
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text


def test_the_page_says_what_was_spent_saved_and_how_that_is_known() -> None:
    page = Page(render_report(an_outcome(errors={"prompt_too_long": 3}, rejected=4), a_histogram()))
    for told in (
        "spent 0.006361 USD all tiers together",
        "saved 16.1 % 0.001219 USD",
        "to the small model 40.0 % of the queries",
        "queries 304 298 answered",
        "threshold 0.612345",
        "prompt_too_long 3",
        "4 queries were refused before any model saw them.",
        "48 answers were cut at max_tokens.",
        "Estimate: the large engine's time",
    ):
        assert told in page.text


def test_the_page_lists_thresholds_by_group_and_what_had_none() -> None:
    groups = {f"t{number:02d}": 0.5 + number / 1000 for number in range(51)} | {"<b>": 0.25, "shut": 1.000001}
    outcome = replace(an_outcome(), threshold=1.000001, by="tenant", groups=groups, ungrouped_rows=7)
    html = render_report(outcome, by_group(a_histogram()))
    page = Page(html)
    for told in (
        "53 thresholds by tenant",
        "Each tenant has a threshold of its own",
        "tenant Threshold <b> 0.250000 t00 0.500000 t01 0.501000",
        "And 3 more; manifest.json has all of them.",
        "No promise could be kept for 1 of them: all their queries went to the large model.",
        "7 queries of no calibrated tenant went to the large model.",
    ):
        assert told in page.text
    assert "<b>" not in html
    assert "The policy sent every query" not in page.text
    assert "1.000001" not in page.text


def test_names_are_escaped() -> None:
    outcome = an_outcome(errors={"<script>alert(1)</script>": 1})
    html = render_report(outcome, a_histogram())
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_every_row_is_drawn_on_the_right_side_of_the_threshold() -> None:
    drawing = chart(a_histogram(), 0.5)
    assert drawing is not None
    assert drawing.threshold_x is not None
    for bar in drawing.bars:
        assert 0 <= bar.x <= WIDTH
        assert bar.x + bar.width <= WIDTH + 1e-6
        assert 0 <= bar.y <= HEIGHT
        assert bar.y + bar.height == pytest.approx(HEIGHT)
        side = "small" if bar.x >= drawing.threshold_x - 1e-6 else "large"
        assert bar.tier == side


def test_with_thresholds_by_group_each_bar_is_stacked_by_tier() -> None:
    histogram = by_group(a_histogram())
    drawing = chart(histogram, 1.000001)
    assert drawing is not None
    assert drawing.threshold_x is None
    rows = {tier: sum(bar.height for bar in drawing.bars if bar.tier == tier) for tier in ("small", "large")}
    per_row = HEIGHT / drawing.highest
    assert histogram.small is not None
    small = int(histogram.small.sum())
    assert 0 < small < histogram.total
    assert rows["small"] == pytest.approx(small * per_row)
    assert rows["large"] == pytest.approx((histogram.total - small) * per_row)
    for bar in drawing.bars:
        below = [other for other in drawing.bars if other.x == bar.x and other.tier == "small" and bar.tier == "large"]
        assert bar.y + bar.height == pytest.approx(below[0].y if below else HEIGHT)


def test_narrow_scores_are_drawn_large() -> None:
    drawing = chart(a_histogram(100, 0.42, 0.48), 0.45)
    assert drawing is not None
    assert [tick.label for tick in drawing.ticks] == ["0.3", "0.4", "0.5"]
    assert drawing.step == 0.01


@pytest.mark.parametrize("micros", [0, GRID, GRID // 2, GRID - 1])
def test_a_single_score_is_drawn(micros: int) -> None:
    drawing = chart(ScoreHistogram(np.array([micros]), np.array([3])), 0.5)
    assert drawing is not None
    assert drawing.highest == 3
    assert sum(bar.width for bar in drawing.bars) > 0


def test_rows_without_a_score_are_not_drawn() -> None:
    assert chart(ScoreHistogram(np.array([-2, -1]), np.array([5, 1])), 0.5) is None


def test_a_threshold_outside_the_drawing_is_not_drawn() -> None:
    drawing = chart(a_histogram(100, 0.42, 0.48), 0.9)
    assert drawing is not None
    assert drawing.threshold_x is None
    assert {bar.tier for bar in drawing.bars} == {"large"}
