"""docs/scorers.md has every scorer, option and alias, and its example runs."""

from __future__ import annotations

import re

import pytest

from hybrid_batch.quality import SCORERS, Case
from hybrid_batch.quality.by_row import ALIASES, LEFT_OUT, ROW_KINDS
from tests.unit.test_docs import code_in, rows, section, text_of

DOCUMENT = text_of("docs/scorers.md")


def test_every_scorer_is_described_with_its_need_and_range():
    table = rows(DOCUMENT.partition("## Which one")[0])
    assert [code_in(cells[0])[0] for cells in table] == list(SCORERS)
    for cells in table:
        kind = SCORERS[code_in(cells[0])[0]]
        assert cells[2].startswith(("yes", "unless")) == kind.needs_reference, cells[0]
        assert (cells[3] == "0 to 1") == (kind.bounds == (0.0, 1.0)), cells[0]


def test_every_option_is_described_with_its_default():
    said = {
        (scorer, code_in(cells[0])[0]): cells[2].strip("`")
        for cells in rows(section(DOCUMENT, "## Options"))
        for scorer in code_in(cells[1])
    }
    true = {
        (scorer, name): "must be given" if option.required else _told(option.default)
        for scorer, kind in SCORERS.items()
        for name, option in kind.options.items()
    }
    assert said == true


def _told(default: object) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_every_alias_is_described():
    part = section(DOCUMENT, "## Each row its scorer")
    assert {code_in(cells[0])[0]: code_in(cells[1])[0] for cells in rows(part)} == dict(ALIASES)
    names = {name.lower() for name in code_in(part)}
    assert set(ROW_KINDS) | set(LEFT_OUT) <= names


@pytest.mark.parametrize(("answer", "quality"), [('{"name": "x"}', 1.0), ("[1]", 0.5), ("name", 0.0)])
def test_the_example_of_a_function_judges(answer, quality):
    [code] = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    module: dict = {}
    exec(code, module)
    assert module["score"](answer, Case("q", "?", None)) == quality
