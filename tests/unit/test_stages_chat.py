"""Which chat turns are valid, what the router reads of them, and how images become parts of them."""

from __future__ import annotations

import base64

import pytest

from hybrid_batch.stages.chat import image_url, text_of_messages, with_image

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 8
WEB = "https://host/cat.png"
DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
CONTENT = " must be an object with a 'content' that is text or a non-empty list of parts"
ROLES = "system, user, assistant, tool"
URLS = "allowed are http://, https:// and data:image/TYPE;base64, addresses"


def turn(role: object, content: object, **more: object) -> dict:
    return {"role": role, "content": content, **more}


def text(value: object) -> dict:
    return {"type": "text", "text": value}


def image(url: object) -> dict:
    return {"type": "image_url", "image_url": {"url": url}}


def test_the_router_reads_the_users_turns():
    chat = [turn("system", "s"), turn("user", "one"), turn("assistant", "a"), turn("user", "two")]
    assert text_of_messages(chat) == ("one\ntwo", None)


def test_the_router_reads_the_texts_among_the_parts():
    chat = [turn("system", [text("s")]), turn("user", [text("one"), image(WEB), text("two"), image(DATA)])]
    assert text_of_messages(chat) == ("one\ntwo", None)
    assert text_of_messages([turn("user", [image(WEB)])]) == ("", None)


def test_calls_of_tools_and_their_answers_are_turns():
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    chat = [turn("user", "q"), {"role": "assistant", "tool_calls": calls}, turn("tool", "42", tool_call_id="c")]
    assert text_of_messages(chat) == ("q", None)
    assert text_of_messages([turn("user", "q"), turn("assistant", None, tool_calls=calls)]) == ("q", None)
    assert text_of_messages([turn("user", "q"), turn("assistant", "a", tool_calls=[])]) == ("q", None)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "messages must be a non-empty list of chat turns, got NoneType"),
        ([], "messages must be a non-empty list of chat turns, got list"),
        ({"role": "user"}, "messages must be a non-empty list of chat turns, got dict"),
        (["hello"], "messages[0] must be an object with role and content, got str"),
        ([turn("user", "x"), turn("user", None)], f"messages[1]{CONTENT}"),
        ([turn("user", [])], f"messages[0]{CONTENT}"),
        ([turn("user", 7)], f"messages[0]{CONTENT}"),
        ([turn("user", [{"type": "text"}])], "messages[0].content[0] must have a 'text' that is text"),
        ([turn("user", ["x"])], "messages[0].content[0].type is None, allowed are text, image_url"),
        (
            [turn("user", [text("x"), {"type": "input_audio"}])],
            "messages[0].content[1].type is 'input_audio', allowed are text, image_url",
        ),
        (
            [turn("user", [{"type": "image_url", "image_url": WEB}])],
            "messages[0].content[0].image_url must be an object with a 'url' that is text",
        ),
        (
            [turn("user", [image("ftp://h/x")])],
            f"messages[0].content[0].image_url.url: 'ftp://h/x' is not allowed, {URLS}",
        ),
        ([turn("wizard", "x")], f"messages[0].role is 'wizard', allowed are {ROLES}"),
        ([turn(["user"], "x")], f"messages[0].role is ['user'], allowed are {ROLES}"),
        ([{"content": "x"}], f"messages[0].role is None, allowed are {ROLES}"),
        (
            [turn("user", "x"), turn("tool", "42")],
            "messages[1].tool_call_id must be the text that names the call which this turn answers",
        ),
        ([turn("user", "x", tool_calls=[{}])], "messages[0].tool_calls belongs to turns of the assistant"),
        ([turn("assistant", "x", tool_calls=["f"])], "messages[0].tool_calls must be a list of objects"),
        ([turn("assistant", None, tool_calls=[])], f"messages[0]{CONTENT}"),
        ([turn("system", "x"), turn("assistant", "y")], "messages has no turn with role 'user'"),
    ],
)
def test_what_is_no_chat_is_told_with_its_place(messages, reason):
    assert text_of_messages(messages) == (None, reason)


@pytest.mark.parametrize(
    ("data", "kind"),
    [(PNG, "png"), (b"\xff\xd8\xff\xe0", "jpeg"), (b"RIFF\x00\n\x00\x00WEBPVP8 ", "webp"), (b"GIF89a", "gif")],
)
def test_bytes_become_an_address_of_their_type(data, kind):
    head, _, body = image_url(data).partition(",")
    assert head == f"data:image/{kind};base64"
    assert base64.b64decode(body) == data


@pytest.mark.parametrize("url", [WEB, "http://10.0.0.1:80/a?b=c", DATA, DATA.replace("image/png", "IMAGE/SVG+xml")])
def test_addresses_are_taken_as_they_are(url):
    assert image_url(url) == url


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"RIFF\x00\x00\x00\x00WAVE", "bytes that begin with b'RIFF"),
        (b"", "are no PNG, JPEG, WebP or GIF file"),
        ("cat.png", "'cat.png' is not allowed"),
        ("https://", "'https://' is not allowed"),
        ("http://[::1/x", "is not allowed"),
        ("s3://bucket/" + "x" * 200, "xxx...' is not allowed"),
        ("data:image/png,abc", "is not allowed"),
        ("data:image/png;base64,", "the data: address holds no bytes"),
        ("data:image/png;base64,a$b=", "the data: address is not base64"),
        (7, "int is no address of an image"),
    ],
)
def test_what_is_no_image_is_told(value, reason):
    with pytest.raises(ValueError) as caught:
        image_url(value)
    assert reason in str(caught.value)


def test_an_image_stands_behind_the_last_question():
    chat = [turn("user", "one"), turn("assistant", "a"), turn("user", "two"), turn("assistant", "b")]
    assert with_image(chat, WEB) == [*chat[:2], turn("user", [text("two"), image(WEB)]), chat[3]]
    assert with_image([turn("user", [text("x"), image(DATA)])], WEB)[0]["content"] == [
        text("x"),
        image(DATA),
        image(WEB),
    ]
    assert with_image([turn("user", "")], WEB)[0]["content"] == [image(WEB)]
