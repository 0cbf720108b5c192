"""What a row may ask for: every field, every limit, and what it does to the job's own request."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_batch.engines.base import ChatRequest, Sampling, request_key
from hybrid_batch.engines.chat_wire import answer_of, must_be_json, to_payload
from hybrid_batch.engines.fake_answers import answer_words, check_messages, completion
from hybrid_batch.engines.fake_forms import Refusal
from hybrid_batch.engines.request_body import overrides_of, with_overrides
from hybrid_batch.engines.request_fields import Overrides

DOCUMENT = (Path(__file__).parents[2] / "docs" / "requests.md").read_text(encoding="utf-8")
EXAMPLES = [
    json.loads(line)
    for block in re.findall(r"^```json\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
SCHEMA = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}


def overridden(sampling: Sampling, **given: object) -> ChatRequest:
    request = ChatRequest([{"role": "user", "content": "hi"}], sampling)
    return with_overrides(request, overrides_of(json.dumps(given)))


def test_each_field_comes_to_its_place():
    given = {
        "temperature": 1,
        "max_completion_tokens": 9,
        "top_p": 0.5,
        "top_k": -1,
        "min_p": 0.1,
        "seed": -3,
        "stop": "x",
        "n": 3,
        "logprobs": True,
        "top_logprobs": 4,
        "presence_penalty": -2,
        "frequency_penalty": 2,
        "repetition_penalty": 1.5,
        "min_tokens": 2,
        "logit_bias": {"7": -100},
        "adapter": "legal",
        "user": None,
    }
    found = overridden(Sampling(), **given)
    assert found.adapter == "legal"
    assert found.sampling == Sampling(
        *(1.0, 9, 0.5, -3, ("x",), -1, 0.1, 3, 4, -2.0, 2.0, 1.5),
        passed='{"logit_bias":{"7":-100},"min_tokens":2}',
    )
    sent = to_payload(found, "base")
    assert (sent["model"], sent["logprobs"], sent["top_logprobs"], sent["min_tokens"]) == ("legal", True, 4, 2)


def test_what_a_row_does_not_say_stays_the_jobs():
    job = Sampling(0.5, 7, 0.9, 3, ("END",), top_k=5, logprobs=2, tools=json.dumps([TOOL]))
    assert overridden(job).sampling is job
    assert overridden(job, seed=None, max_tokens=8).sampling == replace(job, max_tokens=8)
    assert overridden(job, logprobs=False).sampling == replace(job, logprobs=None)
    assert overridden(job, stop=["a", "b"]).sampling.stop == ("a", "b")


def test_a_rows_constraint_takes_the_place_of_the_jobs():
    job = Sampling(response_format='{"type":"json_object"}', tool_choice='"required"')
    assert must_be_json(job)
    chosen = overridden(job, structured_outputs={"choice": ["a"]}).sampling
    assert (chosen.response_format, chosen.structured_outputs) == (None, '{"choice":["a"]}')
    freed = overridden(
        replace(job, response_format=None, structured_outputs='{"json":{}}'), response_format={"type": "text"}
    )
    assert freed.sampling.structured_outputs is None
    assert not must_be_json(freed.sampling)
    assert overridden(job, tools=[TOOL]).sampling.tool_choice is None


def test_what_is_passed_on_is_laid_over_the_jobs_field_by_field():
    job = Sampling(passed='{"ignore_eos":true,"logit_bias":{"7":-1.0},"min_tokens":4}')
    changed = overridden(job, min_tokens=2, user="me", logit_bias={"8": 1}, ignore_eos=None).sampling
    assert changed == Sampling(passed='{"ignore_eos":true,"logit_bias":{"8":1},"min_tokens":2,"user":"me"}')
    assert overridden(job, top_k=3).sampling == replace(job, top_k=3)
    assert overridden(Sampling(), min_tokens=2).sampling == Sampling(passed='{"min_tokens":2}')


def test_the_members_of_a_schema_keep_their_order():
    sent = to_payload(overridden(Sampling(), structured_outputs={"json": SCHEMA}), "m")
    assert list(sent["structured_outputs"]["json"]["properties"]) == ["z", "a"]


WRONG = [
    ({"temperature": 2.1}, "temperature: 2.1 is not allowed; allowed is a number from 0 to 2"),
    ({"temperature": "1"}, "temperature: '1' is not allowed"),
    ({"temperature": True}, "temperature: True is not allowed"),
    ({"max_tokens": 0}, "max_tokens: 0 is not allowed; allowed is a whole number of at least 1"),
    ({"max_tokens": 2.0}, "max_tokens: 2.0 is not allowed"),
    ({"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens is 2 and max_completion_tokens 3"),
    ({"top_p": 0}, "top_p: 0 is not allowed; allowed is a number above 0"),
    ({"top_k": -2}, "top_k: -2 is not allowed"),
    ({"min_p": 1.1}, "min_p: 1.1 is not allowed"),
    ({"seed": 2**63}, "seed: 9223372036854775808 is not allowed"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "allowed is a text, or a list of at most 4 texts"),
    ({"stop": ["a", ""]}, "stop: "),
    ({"n": 0}, "n: 0 is not allowed; allowed is a whole number from 1 to 128"),
    ({"n": 129}, "n: 129 is not allowed"),
    ({"logprobs": 3}, "logprobs: 3 is not allowed; allowed is true or false"),
    ({"top_logprobs": 3}, "top_logprobs is 3; it goes with logprobs: true"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs: 21 is not allowed"),
    ({"presence_penalty": 2.5}, "presence_penalty: 2.5 is not allowed; allowed is a number from -2 to 2"),
    ({"repetition_penalty": 0}, "repetition_penalty: 0 is not allowed"),
    ({"response_format": {"type": "xml"}}, "response_format: {'type': 'xml'} is not allowed (type: "),
    ({"response_format": {"type": "json_schema"}}, "json_schema goes with type 'json_schema'"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
        "(json_schema.schema: Field required)",
    ),
    ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "(it has regex and choice)"),
    ({"structured_outputs": {}}, "(it has none of these)"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs: {'choice': []} is not allowed"),
    ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "both given"),
    ({"tools": []}, "tools: [] is not allowed"),
    ({"tools": [{"type": "function"}]}, "(0.function: Field required)"),
    ({"tool_choice": "may"}, "tool_choice: 'may' is not allowed; allowed is none, auto, required or"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice: there is no tool 'g' in tools; these are look",
    ),
    ({"chat_template_kwargs": "x"}, "chat_template_kwargs: 'x' is not allowed"),
    ({"adapter": ""}, "adapter: '' is not allowed"),
    ({"stream": True}, "stream: True is not allowed; allowed is false"),
    ({"temprature": 1}, "temprature: there is no such field; allowed are "),
]


@pytest.mark.parametrize(("given", "said"), WRONG, ids=[json.dumps(given)[:60] for given, _ in WRONG])
def test_a_wrong_value_is_named_with_what_is_allowed(given, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        overrides_of(json.dumps(given))


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", '{"temperature": NaN}', "[" * 100_000, '{"a":' * 100_000])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ValueError, match=r"request: .*allowed is a JSON object"):
        overrides_of(text)


def test_the_document_names_every_field():
    table = DOCUMENT.partition("## Fields")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    said = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} | {"max_completion_tokens", "stream"}
    assert said == Overrides.model_fields.keys()


@pytest.mark.parametrize("line", EXAMPLES, ids=[line["id"] for line in EXAMPLES])
def test_the_examples_of_the_document_are_answered(line):
    request = ChatRequest([{"role": "user", "content": line["text"]}], Sampling())
    asked = to_payload(with_overrides(request, overrides_of(json.dumps(line["request"]))), "m")
    body = json.loads(json.dumps(completion(answer_words(asked), asked["max_tokens"], 7, "m", asked)))
    answer = answer_of(json.dumps(body).encode())
    assert answer.text or answer.tool_calls
    assert len(answer.samples) == line["request"].get("n", 1) - 1


def fake(**given: object) -> dict:
    asked = {"messages": [{"role": "user", "content": "hi"}], "temperature": 1.0, **given}
    check_messages(asked)
    return completion(answer_words(asked), 100, 7, "m", asked)["choices"][0]


def test_the_fake_servers_answers_keep_to_what_is_asked():
    refer = {"$defs": {"c": {"enum": ["red", "blue"]}}, "type": "array", "items": {"$ref": "#/$defs/c"}, "minItems": 2}
    assert json.loads(fake(structured_outputs={"json": refer})["message"]["content"]) == ["red", "red"]
    assert json.loads(fake(structured_outputs={"json": SCHEMA})["message"]["content"]) == {"z": "amber", "a": 7}
    assert fake(structured_outputs={"choice": ["two words", "b"]})["message"]["content"] == "two words"
    called = fake(tools=[TOOL], tool_choice="required")
    assert (called["finish_reason"], called["message"]["content"]) == ("tool_calls", None)
    assert called["message"]["tool_calls"][0]["function"]["name"] == "look"
    thought = fake(chat_template_kwargs={"enable_thinking": True})["message"]
    assert len(thought["reasoning"].split()) == 4
    assert thought["content"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"structured_outputs": {"json": {"type": "what"}}}, "type 'what' is unknown"),
        ({"structured_outputs": {"json": "{"}}, "Invalid JSON schema"),
        ({"structured_outputs": {"json": {"$ref": "#"}}}, "is no schema"),
        ({"structured_outputs": {"regex": "("}}, "Invalid regex"),
        ({"n": 2, "temperature": 0}, "n must be 1 when using greedy sampling, got 2"),
        ({"tool_choice": "required"}, "`tools` must be set"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages.0"),
    ],
)
def test_the_fake_server_refuses_what_cannot_be_met(given, said):
    with pytest.raises(Refusal, match=re.escape(said)):
        fake(**given)


def test_the_fake_server_looks_at_images():
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    assert fake(messages=[{"role": "user", "content": parts}])["message"]["content"]


def test_a_key_is_that_of_all_that_determines_an_answer():
    def key(turns: list[dict], sampling: Sampling | None = None, adapter: str | None = None) -> bytes:
        return request_key(ChatRequest(turns, sampling or Sampling(), adapter))

    turns = [{"role": "user", "content": "hi"}]
    assert key(turns) == key([{"content": "hi", "role": "user"}])
    others = [
        key([*turns, *turns]),
        key(turns, Sampling(n=2)),
        key(turns, Sampling(structured_outputs='{"json":{}}')),
        key(turns, Sampling(response_format='{"json":{}}')),
        key(turns, adapter="a"),
    ]
    assert len({key(turns), *others}) == 6
