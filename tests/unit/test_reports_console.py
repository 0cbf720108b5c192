"""What a person reads at the end of a run, and while asking how far it is."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal

import pytest
from rich.console import Console, RenderableType

from hybrid_batch.core.cost import Counterfactual, EngineTimePrice, TokenPrice, all_large, price_of
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.outcome import RunStatus, StageStatus
from hybrid_batch.reports import words
from hybrid_batch.reports.console import cost_view, findings_view, outcome_view, pairs_view, status_view
from tests.support.outcomes import an_outcome


def text(view: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row(page: str, tier: str) -> list[str]:
    return next(line for line in page.splitlines() if line.startswith(tier)).split()


def test_the_table_of_a_run() -> None:
    page = text(outcome_view(an_outcome()))
    assert row(page, "small") == ["small", "smollm2-135m-", "120", "9,312", "4,100", "38.0", "0.001056", "0.008796"]
    assert row(page, "large") == ["large", "qwen2.5-coder-", "180", "14,210", "8,012", "191.0", "0.005306", "0.029475"]
    assert row(page, "total") == ["total", "300", "23,522", "12,112", "229.0", "0.006361", "0.021204"]
    assert "Saved 0.001219 USD (16.1 %) against the large model alone (0.007580 USD)." in page
    assert "Estimate: the large engine's time" in page
    assert "40.0 % of the queries went to the small model (threshold 0.612345)." in page
    assert "48 answers were cut at max_tokens." in page
    for place in ("results", "reports/report.html", "reports/cost.parquet", "manifest.json"):
        assert f"s3://bucket/out/runs/night-3fa9c1d2e4b5/{place}" in page


@pytest.mark.parametrize("scale", [0, 1, 1_000, 20_000, 500_000])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(scale: int) -> None:
    dear = EngineTimePrice(Decimal("39.20"))
    for width in (80, 120):
        page = text(cost_view(an_outcome(scale, large=dear).costs, width), width)
        assert max(map(len, page.splitlines())) <= width
        assert "…" not in page


def test_a_wide_terminal_keeps_names_on_one_line() -> None:
    assert "qwen2.5-coder-0.5b-instruct" in text(cost_view(an_outcome().costs, 120), 120)


def test_thresholds_by_group_are_counted_and_strangers_told() -> None:
    groups = {"a": 0.5, "b": 1.000001}
    page = text(
        outcome_view(replace(an_outcome(), threshold=1.000001, by="tenant", groups=groups, ungrouped_rows=1234))
    )
    assert "40.0 % of the queries went to the small model (2 thresholds by tenant)." in page
    assert "1,234 queries of no calibrated tenant went to the large model." in page
    page = text(outcome_view(replace(an_outcome(), by="task", groups={"a": 0.5})))
    assert "(1 threshold by task)." in page
    assert "calibrated" not in page


def test_a_run_that_was_finished_before_says_so_first() -> None:
    assert text(outcome_view(an_outcome(finished=True))).startswith("Run night-3fa9c1d2e4b5 was finished before;")


def test_an_empty_run_has_no_rates() -> None:
    page = text(outcome_view(an_outcome(0)))
    assert row(page, "total") == ["total", "0", "0", "0", "0.0", "0.00", words.UNKNOWN]
    assert "is not known: the large tier answered nothing, its rate is unknown." in " ".join(page.split())


def test_without_prices_there_is_no_money_and_the_reason_is_given() -> None:
    page = text(outcome_view(an_outcome(small=None, large=None)))
    assert row(page, "total")[-2:] == [words.UNKNOWN, words.UNKNOWN]
    assert "is not known: the large tier has no price." in " ".join(page.split())


def test_one_tier_without_a_price_leaves_the_total_unknown() -> None:
    page = text(outcome_view(an_outcome(small=None)))
    assert row(page, "large")[-2] == "0.005306"
    assert row(page, "total")[-2:] == [words.UNKNOWN, words.UNKNOWN]
    assert "is not known: the small tier has no price." in " ".join(page.split())


def test_loading_is_told_apart_where_it_weighs() -> None:
    costs = an_outcome().costs
    sentence = words.loading(costs, all_large(costs))
    # 13 s and 31 s of loading at 0.10 USD an hour; the small model's 4,100 tokens at the large one's 160 s for 8,012
    # tokens are 81.9 s (120 queries at 160 s for 180 would be more), the small engine took 25 s for them.
    assert "Loading the models is 0.001222 USD of what was spent" in sentence
    assert "Apart from loading, routing saved 0.001580 USD (23.5 %)." in sentence
    long_night = [replace(cost, time=replace(cost.time, busy_us=cost.time.busy_us * 100)) for cost in costs]
    priced = [replace(cost, usd=price_of(cost.price, cost.usage, cost.time)) for cost in long_night]
    assert words.loading(priced, all_large(priced)) == ""
    assert words.loading(costs, Counterfactual(None, "unavailable")) == ""


def test_a_loss_is_called_one() -> None:
    page = text(outcome_view(an_outcome(small=EngineTimePrice(Decimal(9)))))
    assert "more than the large model alone" in page
    assert "-" not in page.split("Routing cost ")[1].split("USD")[0]


def test_token_prices_have_a_method_of_their_own() -> None:
    page = text(outcome_view(an_outcome(large=TokenPrice(Decimal("0.5"), Decimal(2)))))
    assert "Estimate: the large tier's token prices" in page


def test_errors_are_listed_by_kind() -> None:
    page = text(outcome_view(an_outcome(errors={"prompt_too_long": 1200, "null_prompt": 3})))
    assert "1,203 queries have no answer:" in page
    assert "  1,200  prompt_too_long" in page


def test_the_status_of_a_run() -> None:
    stages = (StageStatus("score", 2, 4, 300, None), StageStatus("generate small", 3, 8, 48, 120))
    status = RunStatus(RunLayout("/out/runs/x"), "unfinished", stages, an_outcome().costs, {"timeout": 2})
    page = text(status_view(status))
    assert "Run x is unfinished." in page
    assert row(page, "score") == ["score", "2", "of", "4", "300"]
    assert row(page, "generate small")[-2:] == ["40.0", "%"]
    assert "2  timeout" in page
    assert "/out/runs/x/manifest.json" in page


def test_a_status_of_nothing() -> None:
    assert "is unfinished" in text(status_view(RunStatus(RunLayout("/out/runs/x"), "unfinished", (), (), {})))


def test_markup_in_values_is_shown_and_not_obeyed() -> None:
    assert "[bold]x" in text(pairs_view([("run", "[bold]x")]))
    page = text(findings_view([("ok", "run", "[red]y"), ("warn", "a.b", "hm"), ("error", "c", "no")]))
    assert "[red]y" in page
    assert [line.split()[0] for line in page.splitlines()] == ["✓", "!", "✗"]


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "–"),  # noqa: RUF001
        ("0", "0.00"),
        ("0.000001", "0.000001"),
        ("0.5", "0.500000"),
        ("1.23456", "1.2346"),
        ("34888.344", "34,888.34"),
        ("-12", "-12.00"),
    ],
)
def test_money(amount: str | None, shown: str) -> None:
    assert words.usd(None if amount is None else Decimal(amount)) == shown


def test_other_words() -> None:
    assert words.count(1_234_567) == "1,234,567"
    assert words.count(123_456_789) == "123.5 M"
    assert words.duration(75.2) == "1:15"
    assert words.duration(3700) == "1:01:40"
    assert words.short_model("/a/b/model/") == "model"
    assert words.price(None) == "no price"
    assert words.price(EngineTimePrice(Decimal("1.2"))) == "1.20 USD per engine hour"
    assert words.price(TokenPrice(Decimal("0.125"), Decimal(2))).startswith("0.125 / 2.00 USD per million")
