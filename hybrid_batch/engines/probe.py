"""Short questions to a server on this machine.  Standard library only; no proxy is ever asked."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any


def free_port() -> int:
    """A port of this machine that nobody listens on at this moment; it may be taken a moment later."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def healthy(port: int, timeout_s: float = 5.0) -> bool:
    """True when ``/health`` answers 200 within ``timeout_s``."""
    status, _ = _get(port, "/health", None, timeout_s)
    return status == 200


def answers_our_key(port: int, key: str, timeout_s: float = 5.0) -> bool:
    """True when the server is ready and it is the one that was given ``key`` (a port can be somebody else's)."""
    return healthy(port, timeout_s) and _get(port, "/v1/models", key, timeout_s)[0] == 200


def max_model_len(port: int, key: str, timeout_s: float = 5.0) -> int | None:
    """The context window in tokens that the server reports for its model."""
    _, body = _get(port, "/v1/models", key, timeout_s)
    cards: list[dict[str, Any]] = json.loads(body)["data"] if body else []
    window = cards[0].get("max_model_len") if cards else None
    return int(window) if window else None


def _get(port: int, path: str, key: str | None, timeout_s: float) -> tuple[int | None, bytes]:
    """Status and body, or (None, b"") when there was no proper answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None, b""
    finally:
        connection.close()
