"""What a row asks for, in one form whatever it was written in."""

from __future__ import annotations

import json

import pytest

from hybrid_batch.stages.overrides import request_text, without_nulls


@pytest.mark.parametrize("nothing", [None, "", "  ", "{}", {}, '{"seed": null}', {"seed": None}])
def test_nothing_is_asked_for(nothing):
    assert request_text(nothing) == (None, None)


def test_equal_requests_are_equal_texts():
    given = {"top_p": 0.5, "max_tokens": 7, "seed": None}
    canonical = '{"max_tokens":7,"top_p":0.5}'
    assert request_text(given) == request_text(json.dumps(given)) == (canonical, None)


def test_a_schema_keeps_its_order_and_its_nulls():
    schema = {"type": "object", "properties": {"z": {"enum": ["a", None], "default": None}, "a": {"type": "string"}}}
    format_ = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    text, reason = request_text({"response_format": format_})
    assert reason is None
    assert text == json.dumps({"response_format": format_}, separators=(",", ":"))


def test_structs_lose_the_fields_that_other_rows_have():
    assert without_nulls([{"n": 1, "stop": [None, {"a": None}], "seed": None}, None]) == [
        {"n": 1, "stop": [None, {}]},
        None,
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("not json", "request is no JSON: Expecting value"),
        ("[1]", "request must be a JSON object, got list"),
        ({"temperature": 9}, "temperature: 9 is not allowed"),
        ('{"temprature": 1}', "temprature: there is no such field"),
        ({"seed": b"x"}, "request is no JSON: Object of type bytes"),
        ({"temperature": float("nan")}, "request is no JSON"),
        ('{"temperature": NaN}', "request: Out of range float values"),
        ('{"a":' * 100_000, "request is nested too deeply"),
        ({"user": "x" * 5000, "n": 0}, "n: 0 is not allowed"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_asked_for_is_told(given, said):
    text, reason = request_text(given)
    assert said in reason
    assert text is None or text == given or json.loads(text) == given
