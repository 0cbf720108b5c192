"""Clients of S3, made once per process and set of AWS settings.

botocore finds endpoint, region and credentials by the standard AWS settings; pyarrow's C++ client, which
reads ranges of huge objects, is given what botocore found, so that the two never disagree.
"""

import os
import random
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybrid_batch.core.errors import StorageError

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

_ATTEMPTS = 8
_LONGEST_WAIT_S = 20.0
"""Between two tries: half to all of 1, 2, 4, 8, 16, 20, 20 s, which is 53 s on average until the last of them."""
_ATTEMPTS_OF_A_CHECK = 2
_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_READ_SECONDS_OF_A_CHECK = 10
_POOL_SIZE = 32
_SERVER_ERROR, _NOT_IMPLEMENTED = 500, 501
# Newer SDKs send checksums in a form that other S3 servers refuse (411 MissingContentLength).
_CHECKSUMS = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_REQUIRED",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "WHEN_REQUIRED",
}


@dataclass(frozen=True)
class Connection:
    """Clients for one set of AWS settings; safe to share between threads.

    ``client`` retries patiently, ``quick_client`` gives up within seconds (for checks before a run).
    """

    session: Any
    client: Any
    quick_client: Any
    endpoint: str
    _regions: dict[str, str] = field(default_factory=dict)
    _file_systems: dict[str, "tuple[object, S3FileSystem]"] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def file_system(self, bucket: str) -> "S3FileSystem":
        """pyarrow's view of ``bucket``, made anew whenever the credentials have been renewed."""
        credentials = _frozen_credentials(self.session)
        with self._lock:
            known = self._file_systems.get(bucket)
            if known and known[0] == credentials:
                return known[1]
            made = _file_system(self, credentials, self._region(bucket))
            self._file_systems[bucket] = (credentials, made)
            return made

    def _region(self, bucket: str) -> str:
        if bucket not in self._regions:
            self._regions[bucket] = _region_of(self, bucket)
        return self._regions[bucket]


def connect() -> Connection:
    """The connection for the AWS settings of this moment, from a cache per process.

    A change of an ``AWS_*`` variable, or a fork, gives a new one.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _CHECKSUMS.items()})
    settings = sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
    key = (os.getpid(), *settings)
    with _LOCK:
        if key not in _CONNECTIONS:
            # Settings seldom change within a process; when they do, the old clients are of no more use.
            _CONNECTIONS.clear()
            _CONNECTIONS[key] = _connect()
        return _CONNECTIONS[key]


def forget_connections() -> None:
    """Let the next ``connect`` read the AWS configuration files again."""
    with _LOCK:
        _CONNECTIONS.clear()


_CONNECTIONS: dict[tuple[object, ...], Connection] = {}
_LOCK = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_LOCK=threading.Lock()))


def _connect() -> Connection:
    try:
        import botocore.session
    except ImportError as error:
        raise StorageError("s3:// URLs need the package boto3: pip install boto3") from error
    session = botocore.session.get_session()
    # The user's own AWS_MAX_ATTEMPTS or profile setting wins.
    attempts = int(session.get_config_variable("max_attempts") or _ATTEMPTS)
    client = _client(session, attempts, _READ_SECONDS)
    quick = _client(session, min(attempts, _ATTEMPTS_OF_A_CHECK), _READ_SECONDS_OF_A_CHECK)
    endpoint = str(client.meta.endpoint_url)
    if "@" in urlsplit(endpoint).netloc:
        raise StorageError("AWS_ENDPOINT_URL holds a user name or password: take it out, S3 does not use them")
    return Connection(session, client, quick, endpoint)


def attempts_of(client: Any) -> int:
    """How often ``client`` tries one request."""
    return int(client.meta.config.retries["total_max_attempts"])


def _client(session: Any, attempts: int, read_seconds: int) -> Any:
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=read_seconds,
        max_pool_connections=_POOL_SIZE,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = session.create_client("s3", config=config)
    client.meta.events.register_first("needs-retry.s3", partial(_wait, attempts))
    return client


def _wait(most: int, attempts: int, response: Any, caught_exception: Exception | None, **_: object) -> float | None:
    """Seconds until the next try of a request, None to let botocore decide.

    Where there is no answer, or a 5xx that is no throttling, botocore waits for 50 ms at first and for a few seconds in
    all: a server that is started again takes longer.  It also gives up after some forty tries of all requests together.
    """
    from botocore import exceptions

    status = response[0].status_code if response else 0
    broken = status >= _SERVER_ERROR and status != _NOT_IMPLEMENTED
    unreached = (exceptions.ConnectionError, exceptions.HTTPClientError)
    if not (broken or isinstance(caught_exception, unreached)) or attempts >= most:
        return None
    return random.uniform(0.5, 1) * min(2.0 ** (attempts - 1), _LONGEST_WAIT_S)  # noqa: S311 -- jitter, not a secret


def _frozen_credentials(session: Any) -> Any:
    from botocore.exceptions import NoCredentialsError

    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError()
    return credentials.get_frozen_credentials()


def _is_amazon(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _region_of(connection: Connection, bucket: str) -> str:
    """Where the bucket is: Amazon answers a request at the wrong region's door with a redirect, which
    botocore follows and pyarrow does not."""
    ours = str(connection.client.meta.region_name or "us-east-1").replace("aws-global", "us-east-1")
    if not _is_amazon(connection.endpoint):
        return ours
    answer = connection.client.head_bucket(Bucket=bucket)
    return str(answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", ours))


def _file_system(connection: Connection, credentials: Any, region: str) -> "S3FileSystem":
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    endpoint = urlsplit(connection.endpoint)
    s3_settings = connection.client.meta.config.s3 or {}
    return S3FileSystem(
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.token,
        region=region,
        scheme=endpoint.scheme,
        endpoint_override=None if _is_amazon(connection.endpoint) else endpoint.netloc + endpoint.path,
        force_virtual_addressing=s3_settings.get("addressing_style") == "virtual",
        connect_timeout=float(_CONNECT_SECONDS),
        request_timeout=float(_READ_SECONDS),
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=attempts_of(connection.client)),
        **_certificates(),
    )


def _certificates() -> dict[str, str]:
    bundle = os.environ.get("AWS_CA_BUNDLE")
    return {"tls_ca_file_path": bundle} if bundle else {}
