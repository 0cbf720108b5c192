from __future__ import annotations

import importlib
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.quality import SCORERS, Case, ScorerRecipe, build_scorer, check_recipe, kind_of, needs_reference
from hybrid_batch.quality.by_row import ALIASES, LEFT_OUT, ROW_KINDS
from tests.unit.test_imports import HEAVY, modules_after

CASE = Case("q7", "how much?", "12")


def refused(recipe: ScorerRecipe, message: str) -> None:
    for look in (check_recipe, build_scorer):
        with pytest.raises(ConfigError, match=message):
            look(recipe)


def test_a_recipe_travels_and_serves_as_a_key():
    recipe = ScorerRecipe.of("judge", model="m", endpoint="https://example.org/v1")
    assert recipe == ScorerRecipe.of("judge", endpoint="https://example.org/v1", model="m")
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert len({recipe, ScorerRecipe("exact")}) == 2


def test_the_room_loads_no_model_library():
    assert modules_after("hybrid_batch.quality") & (HEAVY | {"aiohttp", "rouge_score", "nltk", "pyspark"}) == set()


def test_an_unknown_kind_is_refused_with_all_that_exist():
    refused(ScorerRecipe("bleu"), "the scorer 'bleu' is unknown; allowed: exact, contains, numeric, choice")
    with pytest.raises(ConfigError, match="'bleu' is unknown"):
        kind_of(ScorerRecipe("bleu"))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("exact", {"seperator": "|"}, "scorer exact: the option 'seperator' is unknown; did you mean 'separator'"),
        ("numeric", {"separator": "|"}, "scorer numeric: the option 'separator' is unknown; it has none"),
        ("exact", {"separator": ""}, "separator = '', allowed is a text"),
        ("exact", {"separator": 3}, "separator = 3, allowed is a text"),
        ("rouge_l", {"stemmer": "yes"}, "stemmer = 'yes', allowed is true or false"),
        ("rouge_l", {"stemmer": 1}, "stemmer = 1, allowed is true or false"),
        ("bartscore", {}, "the option model must be given: folder of the checkpoint"),
        ("bartscore", {"model": "x", "direction": "up"}, "direction = 'up', allowed is reference_to_answer or"),
        ("bartscore", {"model": "x", "batch_size": 0}, "batch_size = 0, allowed is a whole number of at least 1"),
        ("bartscore", {"model": "x", "batch_size": 2.5}, "batch_size = 2.5, allowed is a whole number"),
        ("judge", {"model": "m"}, "the option endpoint must be given: base URL"),
        (
            "judge",
            {"endpoint": "host/v1", "model": "m"},
            "endpoint = 'host/v1', allowed is a URL that begins with http",
        ),
        ("judge", {"endpoint": "http://h", "model": "m", "votes": True}, "votes = True, allowed is a whole number"),
        ("judge", {"endpoint": "http://h", "model": "m", "temperature": float("nan")}, "temperature = nan, allowed"),
        (
            "judge",
            {"endpoint": "http://h", "model": "m", "api_key_env": "HB_NOT_SET"},
            "'HB_NOT_SET': this variable is",
        ),
        ("by_row", {"kind": "exact"}, "the option 'kind' is unknown; it has none"),
    ],
)
def test_wrong_options_are_refused_by_name(kind, options, message):
    refused(ScorerRecipe.of(kind, **options), message)


def test_needing_a_reference_hangs_on_kind_and_direction():
    bart = {"model": "x"}
    assert needs_reference(ScorerRecipe.of("bartscore", **bart))
    assert not needs_reference(ScorerRecipe.of("bartscore", direction="prompt_to_answer", **bart))
    assert not needs_reference(ScorerRecipe("my_scorers:score"))
    assert {name for name, kind in SCORERS.items() if not kind.needs_reference} == {"judge", "module:function"}


def test_each_row_names_its_scorer():
    rows = [("exact", "12", 1.0), ("GSM8K", "so 12", 1.0), ("em_mc", "B) x", 1.0), ("f1_score", "b x y", 2 / 3)]
    references = ["12", "1 + 11\n#### 12", "B", "b z y"]
    cases = [
        Case(f"q{place}", "?", reference, kind=kind)
        for place, ((kind, _, _), reference) in enumerate(zip(rows, references, strict=True))
    ]
    small, large = build_scorer(ScorerRecipe("by_row")).score(
        cases, [[answer] for _, answer, _ in rows], [["nothing"]] * len(rows)
    )
    assert small == [[pytest.approx(quality)] for _, _, quality in rows]
    assert large == [[0.0]] * len(rows)


@pytest.mark.parametrize("kind", ["bleu", "judge", "bartscore", "my:function", *LEFT_OUT])
def test_a_row_with_another_scorer_is_named(kind):
    scorer = build_scorer(ScorerRecipe("by_row"))
    message = LEFT_OUT.get(kind, "is unknown")
    with pytest.raises(InputError, match=f"query 'q7': the scorer '{kind}'.*{message}.*allowed: exact, .*em_mc"):
        scorer.score([Case("q7", "?", "1", kind=kind)], [["1"]], [["1"]])


@pytest.mark.parametrize("kind", [None, "", " "])
def test_a_row_without_a_scorer_is_named(kind):
    with pytest.raises(InputError, match="query 'q7' names no scorer, and by_row needs one; allowed: exact"):
        build_scorer(ScorerRecipe("by_row")).score([Case("q7", "?", "1", kind=kind)], [[None]], [[None]])


def test_aliases_lead_to_scorers_without_options_that_must_be_given():
    assert set(ALIASES.values()) <= set(ROW_KINDS) <= set(SCORERS)
    assert not set(ALIASES) & (set(ROW_KINDS) | set(LEFT_OUT))
    assert not any(option.required for kind in ROW_KINDS for option in SCORERS[kind].options.values())


MODULE = """
import numpy as np

from hybrid_batch.core.errors import InputError

def score(answer, case):
    return len(answer) / len(case.prompt)

def whole(answer, case):
    return np.float32(0.5) if answer == "half" else 1

def broken(answer, case):
    raise KeyError("weights")

def forgets(answer, case):
    len(answer)

def text(answer, case):
    return "0.5"

def nan(answer, case):
    return float("nan")

def infinite(answer, case):
    return float("-inf")

def refuses(answer, case):
    raise InputError(f"query {case.query_id} is none of mine")

table = {}
"""


@pytest.fixture
def functions(tmp_path: Path) -> Iterator[Callable[[str], ScorerRecipe]]:
    """Recipes of functions in a module of this test's own, on the path for its length."""
    name = re.sub(r"\W", "_", f"scorers_{tmp_path.name}")
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_broken.py").write_text("import a_package_that_nobody_has")
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    yield lambda function: ScorerRecipe(f"{name}{function}")
    sys.path.remove(str(tmp_path))


def test_a_function_of_the_user_judges(functions):
    check_recipe(functions(":score"))
    scorer = build_scorer(functions(":score"))
    assert scorer.score([CASE], [["abc", None]], [[""]]) == ([[3 / 9, None]], [[0.0]])
    found, _ = build_scorer(functions(":whole")).score([CASE], [["half", "x"]], [[]])
    assert found == [[0.5, 1.0]]
    assert not any(isinstance(value, np.generic) for value in found[0])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("_missing:score", "the module '.*_missing' cannot be imported .ModuleNotFoundError"),
        ("_broken:score", "cannot be imported .ModuleNotFoundError: No module named 'a_package_that_nobody_has'"),
        (":nothing", r"scorers_\w+\.py has no 'nothing'"),
        (":table", r"scorers_\w+\.py has no function of the name 'table'"),
        (":", "a function is named as module:function"),
    ],
)
def test_a_function_that_is_not_there_is_refused_early(functions, function, message):
    refused(functions(function), message)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (":broken", "raised KeyError for query 'q7': 'weights'"),
        (":forgets", "returned None for query 'q7'; allowed is a finite number"),
        (":text", "returned '0.5' for query 'q7'"),
        (":nan", "returned nan for query 'q7'"),
        (":infinite", "returned -inf for query 'q7'"),
    ],
)
def test_a_function_that_returns_no_number_is_named_with_the_query(functions, function, message):
    recipe = functions(function)
    with pytest.raises(ConfigError, match=f"scorer '{recipe.kind}': {message}"):
        build_scorer(recipe).score([CASE], [["x"]], [["x"]])


def test_a_functions_own_word_on_the_input_is_kept(functions):
    with pytest.raises(InputError, match="query q7 is none of mine"):
        build_scorer(functions(":refuses")).score([CASE], [["x"]], [["x"]])
