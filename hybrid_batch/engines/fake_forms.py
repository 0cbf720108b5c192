"""What a constraint or a tool makes of the fake server's answers.  Pure functions of the request."""

from __future__ import annotations

import json
import re
from typing import Any

_PLAIN: dict[str, Any] = {"string": "amber", "integer": 7, "number": 0.5, "boolean": True, "null": None}
_DEEPEST = 32


class Refusal(Exception):
    """An error answer in OpenAI's form; ``told`` is what its error says beside vLLM's own words."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None, **told: str) -> None:
        super().__init__(message)
        self.status, self.message, self.headers, self.told = status, message, headers or {}, told


def asked_for(request: dict[str, Any]) -> str | None:
    """The text that constraint or tool ask for; None where the answer is free.  Raises ``Refusal`` (400)."""
    check_sampling(request)
    if tool := called_tool(request):
        return _json(tool.get("parameters") or {"type": "object"})
    wanted = request.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return _json((wanted.get("json_schema") or {}).get("schema"))
    constraint = request.get("structured_outputs") or {}
    if wanted.get("type") == "json_object" or constraint.get("json_object"):
        return _json({"type": "object", "properties": {"answer": {"type": "string"}}})
    if (schema := constraint.get("json")) is not None:
        return _json(_loaded(schema))
    if choice := constraint.get("choice"):
        return str(choice[0])
    _check_regex(constraint.get("regex"))
    return None


def check_sampling(request: dict[str, Any]) -> None:
    """vLLM's words for several answers where there can be only one."""
    count = request.get("n") or 1
    if count > 1 and request.get("temperature") == 0:
        raise Refusal(400, f"n must be 1 when using greedy sampling, got {count}.")


def check_supported(request: dict[str, Any], unsupported: str) -> None:
    """OpenAI's words for fields that its newer models do not take; ``unsupported`` names them, commas between."""
    for name in unsupported.split(","):
        if name in request:
            instead = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            told = f"Unsupported parameter: '{name}' is not supported with this model.{instead}"
            raise Refusal(400, told, type="invalid_request_error", param=name, code="unsupported_parameter")


def called_tool(request: dict[str, Any]) -> dict[str, Any] | None:
    """The function that the model has to call: the named one, or the first where one is required."""
    functions: list[dict[str, Any]] = [tool["function"] for tool in request.get("tools") or []]
    choice = request.get("tool_choice")
    if choice in (None, "none", "auto"):
        return None
    if not functions:
        raise Refusal(400, "When using `tool_choice`, `tools` must be set.")
    if choice == "required":
        return functions[0]
    named = [function for function in functions if function["name"] == choice["function"]["name"]]
    if not named:
        raise Refusal(400, "The tool specified in `tool_choice` does not match any of the specified `tools`")
    return named[0]


def _json(schema: Any) -> str:
    """A value that a simple ``schema`` allows, as JSON with spaces, so that its words are its tokens."""
    return json.dumps(_value(schema, schema, _DEEPEST), ensure_ascii=False)


def _value(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth == 0:
        raise Refusal(400, f"Invalid JSON schema: {str(schema)[:80]!r} is no schema")
    if "$ref" in schema:
        return _value(_referred(str(schema["$ref"]), root), root, depth - 1)
    if "const" in schema:
        return schema["const"]
    for key in ("enum", "anyOf", "oneOf"):
        if choices := schema.get(key):
            return choices[0] if key == "enum" else _value(choices[0], root, depth - 1)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: _value(inner, root, depth - 1) for name, inner in properties.items()}
    if kind == "array":
        inner = schema.get("items") or {"type": "string"}
        return [_value(inner, root, depth - 1)] * max(1, schema.get("minItems") or 0)
    if kind not in _PLAIN:
        raise Refusal(400, f"Invalid JSON schema: type {kind!r} is unknown")
    return schema.get("minimum", _PLAIN[kind]) if kind in ("integer", "number") else _PLAIN[kind]


def _referred(pointer: str, root: Any) -> Any:
    found = root
    for step in pointer.removeprefix("#/").split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _loaded(schema: Any) -> Any:
    try:
        return json.loads(schema) if isinstance(schema, str) else schema
    except ValueError as error:
        raise Refusal(400, f"Invalid JSON schema: {error}") from None


def _check_regex(pattern: Any) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise Refusal(400, f"Invalid regex: {error}") from None
