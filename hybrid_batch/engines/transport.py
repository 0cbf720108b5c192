"""HTTP to one server: connections kept open, a deadline for each exchange, and three ways to fail.

aiohttp does the work; nothing else in the package knows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

CONNECT_TIMEOUT_S: Final = 10.0

KEEPALIVE_S: Final = 4.0
"""Below the 5 s after which vLLM closes an idle connection, so that a request rarely meets a closing one."""


class UnreachableError(Exception):
    """No connection came about: nobody listens, no such host, no proper TLS."""


class CutOffError(Exception):
    """A connection ended, or made no sense, before the whole answer was there."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.  ``headers`` ignores case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """At most ``connections`` connections to the server of ``base_url``, from one event loop.

    The first exchange opens it, so it may be made outside the loop.  ``may_use_proxy`` lets the environment's proxy
    settings (``HTTPS_PROXY``, ``NO_PROXY``, ...) count.  Redirects are not followed: a key would travel with them.
    """

    def __init__(self, base_url: str, api_key: str | None, connections: int, *, may_use_proxy: bool) -> None:
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._connections = connections
        self._proxy = proxy_for(base_url) if may_use_proxy else None
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: URL, body: bytes, timeout_s: float) -> Reply:
        """Raises ``TimeoutError``, :class:`UnreachableError` or :class:`CutOffError`."""
        return await self._exchange("POST", url, body, timeout_s)

    async def get(self, url: URL, timeout_s: float) -> Reply:
        """Raises as :meth:`post` does."""
        return await self._exchange("GET", url, None, timeout_s)

    async def close(self) -> None:
        """Close all connections; a second call does nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _exchange(self, method: str, url: URL, body: bytes | None, timeout_s: float) -> Reply:
        session = self._session or self._open()
        try:
            async with (
                asyncio.timeout(timeout_s),
                session.request(method, url, data=body, allow_redirects=False) as response,
            ):
                return Reply(response.status, response.headers, await response.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise UnreachableError(_told(error)) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise CutOffError(_told(error)) from None

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=KEEPALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._proxy,
        )
        return self._session


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for ``url``, None where it names none or excepts the host."""
    target = URL(url)
    proxy = getproxies().get(target.scheme)
    return None if proxy is None or proxy_bypass(target.authority) else proxy


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
