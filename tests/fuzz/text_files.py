"""Text files of lines that a person or a program might write."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

_CHAT: Final = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]
_DEEP: Final = 2_000

_ODD_VALUES: Final[tuple[Any, ...]] = (
    None, "", " ", "\t", "é😀", "\u2028", "\x00", "long " * 400, 0, -1, 2**63, 10**400, 1.5, True, [], {}, ["x"],
    {"a": 1}, "\ud800", "[]", "{}", '"', "'", "a,b", "a\nb", "a\r\nb",
)  # fmt: skip

_RAW_JSON: Final = (
    "", "   ", "null", "[]", '"text"', "7", "{", "}", '{"id": 1,}', "{'id': 1}", '{"id": NaN, "prompt": "x"}',
    '{"id": "a", "id": "b", "prompt": "x"}', '{"id": "a", "prompt": 1e999}',
    '{"id": ' + "9" * 5_000 + ', "prompt": "x"}',
    '{"id": "deep", "prompt": "x", "tenant": ' + "[" * _DEEP + "]" * _DEEP + "}",
    '{"id": "deep", "prompt": "x", "messages": ' + '{"a":' * _DEEP + "1" + "}" * _DEEP + "}",
    '{"id": "a", "prompt": "\\ud800"}', '{"id": "\\ud800", "prompt": "x"}', '{"\\ud800": 1}',
)  # fmt: skip


def text_content(made: dict[str, Any]) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The bytes of the lines, and what packs them."""
    build = {"jsonl": _json_lines, "openai-batch": _batch_lines, "csv": _csv_lines}[made["format"]]
    text = made["ends"].join(build(made))
    text += made["ends"] if made["last"] else ""
    content = (b"\xef\xbb\xbf" if made["mark"] else b"") + text.encode("utf-8", "surrogatepass")
    return content, {None: bytes, "gzip": gzip.compress, "zstd": _zstd}[made["packed"]]


def _zstd(content: bytes) -> bytes:
    return pa.compress(content, "zstd", asbytes=True)


def _json_lines(made: dict[str, Any]) -> list[str]:
    lines = [_query(0, 0), *(_query(number, place) for place, number in enumerate(made["lines"], 1))]
    return lines if made["header"] != 4 else [line.encode().decode() for line in lines[1:]]


def _query(number: int, place: int) -> str:
    row = {"id": f"q{place}", "prompt": f"question {place}", "messages": _CHAT, "tenant": place, "request": None}
    if number >= len(_RAW_JSON) + 20:
        return json.dumps(row)
    if number >= 20:
        return _RAW_JSON[number - 20]
    if number:
        column = list(row)[(number + place) % len(row)]
        row[column] = _ODD_VALUES[(number * 7 + place) % len(_ODD_VALUES)]
    return json.dumps(row, ensure_ascii=place % 2 == 0)


def _batch_lines(made: dict[str, Any]) -> list[str]:
    return [_request(number, place) for place, number in enumerate([0, *made["lines"]])]


def _request(number: int, place: int) -> str:
    body: dict[str, Any] = {"model": "m", "messages": _CHAT, "max_tokens": 4}
    line: dict[str, Any] = {"custom_id": f"r{place}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    odd = _ODD_VALUES[(number * 5 + place) % len(_ODD_VALUES)]
    if number >= 30:
        return _RAW_JSON[number % len(_RAW_JSON)]
    if number >= 15:
        name = ("messages", "max_tokens", "temperature", "stop", "n", "response_format", "tools")[number % 7]
        body[name] = odd
    elif number:
        line[("custom_id", "method", "url", "body", "tenant")[number % 5]] = odd
    return json.dumps(line)


_HEADERS: Final = (
    ["id", "prompt", "messages", "tenant", "request"],
    ["id", "prompt", "prompt", "messages", "tenant", "request"],
    ["prompt"],
    ["id", "prompt", "messages", "tenant", "request", ""],
    ["ID", " prompt"],
)


def _csv_lines(made: dict[str, Any]) -> list[str]:
    header = _HEADERS[made["header"]]
    rows = [_fields(number, place, len(header)) for place, number in enumerate(made["lines"])]
    return [_csv_line(header), *(row if isinstance(row, str) else _csv_line(row) for row in rows)]


def _fields(number: int, place: int, columns: int) -> list[str] | str:
    row = [f"q{place}", f"question, {place}", json.dumps(_CHAT), str(place), "", "x"][:columns]
    if number >= 30:
        return ('"', '"open', 'a"b,c', '"a"b,c', "\x00", ",", ",,,,,,,", "\r", "", " ")[number % 10]
    if number >= 25:
        return row[: number % 4]
    if number:
        odd = _ODD_VALUES[(number * 3 + place) % len(_ODD_VALUES)]
        row[number % len(row)] = odd if isinstance(odd, str) else json.dumps(odd)
    return row


def _csv_line(fields: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
