"""Results as the lines of OpenAI's batch output files, in the form in which ``vllm run-batch`` writes them.  Pure.

https://platform.openai.com/docs/api-reference/batch/request-output
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import xxhash

from hybrid_batch.core.routing import REJECTED
from hybrid_batch.engines.base import INVALID_REQUEST
from hybrid_batch.tables import RESULTS

_REFUSED: Final = frozenset({INVALID_REQUEST, "context_overflow"})
_TIMEOUT: Final = "timeout"


def batch_lines(results: pa.Table, run_id: str, created: int) -> tuple[bytes, bytes]:
    """The results of a shard as JSON lines -> ``(answers, errors)``: each row is in one of them, in order.

    A row whose error leaves it an answer is among the errors, with both.  ``created`` is in seconds since 1970.  The
    lines depend on nothing else: made again, they are the same.
    """
    answers: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for row in results.select(RESULTS.names).to_pylist():
        (errors if row["error_kind"] else answers).append(_line(row, run_id, created))
    return _joined(answers), _joined(errors)


def _joined(lines: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode()


def _line(row: Mapping[str, Any], run_id: str, created: int) -> dict[str, Any]:
    mark = xxhash.xxh3_64_hexdigest(f"{run_id}\x00{row['query_id']}".encode())
    kind, has_answer = row["error_kind"], row["text"] is not None
    response = {
        "status_code": 200 if has_answer else _status(kind, row["tier"]),
        "request_id": f"req_{mark}",
        "body": _body(row, mark, created) if has_answer else None,
    }
    error = None if kind is None else {"code": kind, "message": row["error_message"]}
    return {"id": f"batch_req_{mark}", "custom_id": row["query_id"], "response": response, "error": error}


def _status(kind: str, tier: str) -> int:
    """The HTTP status that says the same: the request's fault, the time's, or the server's."""
    if tier == REJECTED or kind in _REFUSED:
        return 400
    return 504 if kind == _TIMEOUT else 500


def _body(row: Mapping[str, Any], mark: str, created: int) -> dict[str, Any]:
    prompt, completion = row["prompt_tokens"], row["completion_tokens"]
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {
        "id": f"chatcmpl-{mark}",
        "object": "chat.completion",
        "created": created,
        "model": row["model"],
        "choices": list(_choices(row)),
        "usage": usage | {"prompt_tokens_details": {"cached_tokens": row["cached_prompt_tokens"]}},
    }


def _choices(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The answer, and behind it further ones to the same request, of which only the texts are kept."""
    calls = _loaded(row["tool_calls"])
    message = {"role": "assistant", "content": row["text"] or (None if calls else "")}
    message |= {"tool_calls": calls} if calls else {}
    message |= {"reasoning": row["reasoning"]} if row["reasoning"] else {}
    yield _choice(0, message, _loaded(row["logprobs"]), row["finish_reason"])
    for index, text in enumerate(row["samples"] or (), 1):
        yield _choice(index, {"role": "assistant", "content": text}, None, None)


def _choice(index: int, message: Mapping[str, Any], logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}


def _loaded(text: str | None) -> Any:
    return None if text is None else json.loads(text)
