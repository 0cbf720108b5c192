"""Objects in S3, or in any server that speaks its protocol and honours ``If-None-Match``."""

import builtins
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hybrid_batch.core.errors import StorageError
from hybrid_batch.storage.base import TEMP_PREFIX, ObjectInfo
from hybrid_batch.storage.s3_connection import Connection, attempts_of, connect, forget_connections
from hybrid_batch.storage.s3_errors import error_code, s3_errors
from hybrid_batch.storage.urls import join, normalise, split_s3

if TYPE_CHECKING:
    import pyarrow as pa

_MISSING = ("404", "NoSuchKey")
_REFUSED = "403"
_TAKEN = ("412", "PreconditionFailed")
_RACING = ("409", "ConditionalRequestConflict", "OperationAborted")
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "InvalidToken")
_BODY_ATTEMPTS = 4


class S3Store:
    """Store over ``s3://bucket/key``.  Holds nothing: the clients live in a cache of the process."""

    def list(self, prefix_url: str) -> list[ObjectInfo]:
        """See Store.list."""
        url = normalise(prefix_url)
        bucket, key = split_s3(url)
        with _connection(url, "s3:ListBucket", "list") as connection:
            found = _list_keys(connection.client, bucket, f"{key}/" if key else "", _is_data)
        if found or not key:
            return sorted(found, key=lambda info: info.url)
        single = self.stat(url)
        return [single] if single else []

    def folders(self, prefix_url: str, beginning: str = "") -> builtins.list[str]:
        """See Store.folders.  A folder is there as long as an object is below it; one request tells of a thousand."""
        url = normalise(prefix_url)
        bucket, key = split_s3(url)
        prefix = f"{key}/" if key else ""
        with _connection(url, "s3:ListBucket", "list") as connection:
            found = _list_folders(connection.client, bucket, prefix + beginning)
        return sorted(f"s3://{bucket}/{name}" for name in found if _is_data(name.removeprefix(prefix)))

    def list_temporary(self, prefix_url: str) -> builtins.list[ObjectInfo]:
        """See Store.list_temporary.  Writes are single puts, so there are no parts of uploads to look for."""
        url = normalise(prefix_url)
        bucket, key = split_s3(url)
        with _connection(url, "s3:ListBucket", "list") as connection:
            found = _list_keys(connection.client, bucket, f"{key}/" if key else "", _is_temporary)
        return sorted(found, key=lambda info: info.url)

    def stat(self, url: str) -> ObjectInfo | None:
        """See Store.stat."""
        url, bucket, key = _object(url)
        with _connection(url, "s3:GetObject", "look up") as connection:
            try:
                answer = connection.client.head_object(Bucket=bucket, Key=key)
            except Exception as error:
                refused = error_code(error) == _REFUSED
                if not refused and error_code(error) not in _MISSING:
                    raise
                # A HEAD answer has no body that tells a missing key from a missing bucket, or why it was refused.
                connection.client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
                if refused:
                    raise
                return None
        return ObjectInfo(url, int(answer["ContentLength"]), _etag(answer), _modified_us(answer))

    def read(self, url: str) -> bytes:
        """See Store.read."""
        data = self.read_if_present(url)
        if data is None:
            raise StorageError(f"cannot read {url}: there is no such object")
        return data

    def read_if_present(self, url: str) -> bytes | None:
        """See Store.read_if_present."""
        url, bucket, key = _object(url)
        with _connection(url, "s3:GetObject", "read") as connection:
            try:
                return _get(connection.client, bucket, key)
            except Exception as error:
                if error_code(error) not in _MISSING:
                    raise
                return None

    def put_if_absent(self, url: str, data: bytes) -> bool:
        """See Store.put_if_absent.  One PutObject with ``If-None-Match: *``, so at most 5 GB."""
        url, bucket, key = _object(url)
        with _connection(url, "s3:PutObject", "write") as connection:
            return _create(connection.client, bucket, key, data)

    def put(self, url: str, data: bytes) -> None:
        """See Store.put."""
        url, bucket, key = _object(url)
        with _connection(url, "s3:PutObject", "write") as connection:
            _put(connection.client, bucket, key, data)

    def delete(self, url: str) -> None:
        """See Store.delete."""
        url, bucket, key = _object(url)
        with _connection(url, "s3:DeleteObject", "delete") as connection:
            connection.client.delete_object(Bucket=bucket, Key=key)

    def open_input(self, url: str) -> "pa.NativeFile":
        """See Store.open_input."""
        url, bucket, key = _object(url)
        with _connection(url, "s3:GetObject", "open") as connection:
            try:
                return connection.file_system(bucket).open_input_file(f"{bucket}/{key}")
            except FileNotFoundError:
                # pyarrow says the same of a missing bucket; this raises for one.
                self.stat(url)
                raise

    def check_writable(self, prefix_url: str) -> None:
        """See Store.check_writable.  Also refuses a server that ignores ``If-None-Match``."""
        url = normalise(prefix_url)
        bucket, key = split_s3(url)
        probe, _, probe_key = _object(join(url, f"{TEMP_PREFIX}probe-{uuid.uuid4().hex}"))
        with _connection(url, "s3:ListBucket", "list", quick=True) as connection:
            connection.quick_client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        with _connection(probe, "s3:PutObject", "write", quick=True) as connection:
            _create(connection.quick_client, bucket, probe_key, b"probe")
            ignored = _create(connection.quick_client, bucket, probe_key, b"probe")
        with _connection(probe, "s3:DeleteObject", "delete", quick=True) as connection:
            connection.quick_client.delete_object(Bucket=bucket, Key=probe_key)
        if ignored:
            raise StorageError(
                f"cannot use {url}: the server at {connection.endpoint} ignores If-None-Match, "
                "without which a result cannot be committed exactly once: use a server that honours it"
            )


@contextmanager
def _connection(url: str, right: str, action: str, quick: bool = False) -> Iterator[Connection]:
    """The clients, with every failure of theirs told as a StorageError about ``url``."""
    with s3_errors(url, right, action):
        connection = connect()
    attempts = attempts_of(connection.quick_client if quick else connection.client)
    with s3_errors(url, right, action, connection.endpoint, attempts):
        try:
            yield connection
        except Exception as error:
            if error_code(error) in _EXPIRED:
                # Keys that somebody renews in a file are read once per connection.
                forget_connections()
            raise


def _object(url: str) -> tuple[str, str, str]:
    """Normalised URL, bucket and key."""
    url = normalise(url)
    bucket, key = split_s3(url)
    if not key:
        raise StorageError(f"{url} names a bucket; an object is s3://bucket/key")
    return url, bucket, key


def _etag(answer: dict[str, Any]) -> str:
    return str(answer["ETag"]).strip('"')


def _modified_us(answer: dict[str, Any]) -> int:
    return round(answer["LastModified"].timestamp() * 1_000_000)


def _list_keys(client: Any, bucket: str, prefix: str, wanted: Callable[[str], bool]) -> builtins.list[ObjectInfo]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [
        ObjectInfo(f"s3://{bucket}/{item['Key']}", int(item["Size"]), _etag(item), _modified_us(item))
        for page in pages
        for item in page.get("Contents", [])
        if wanted(item["Key"].removeprefix(prefix))
    ]


def _list_folders(client: Any, bucket: str, prefix: str) -> builtins.list[str]:
    """Keys of the folders that begin with ``prefix``, without the slash at their end."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    return [item["Prefix"].removesuffix("/") for page in pages for item in page.get("CommonPrefixes", [])]


def _is_data(name: str) -> bool:
    return bool(name) and not name.endswith("/") and not any(part.startswith(".") for part in name.split("/"))


def _is_temporary(name: str) -> bool:
    *folders, last = name.split("/")
    return last.startswith(TEMP_PREFIX) and not any(folder.startswith(".") for folder in folders)


def _get(client: Any, bucket: str, key: str) -> bytes:
    """The body as well is tried again: botocore's own retries end when the headers have arrived."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    for attempt in range(1, _BODY_ATTEMPTS + 1):
        try:
            return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except (HTTPClientError, IncompleteReadError):
            if attempt == _BODY_ATTEMPTS:
                raise
            _back_off(attempt)
    raise AssertionError("the last attempt returns or raises")


def _create(client: Any, bucket: str, key: str, data: bytes) -> bool:
    """PutObject unless the key is taken.

    botocore repeats a request whose answer was lost.  If the first try had been stored, the second is told
    412 about our own object: False, though we wrote it.  The contract holds: a complete object is there.
    """
    try:
        _put(client, bucket, key, data, IfNoneMatch="*")
    except Exception as error:
        if error_code(error) in _TAKEN:
            return False
        raise
    return True


def _put(client: Any, bucket: str, key: str, data: bytes, **condition: str) -> None:
    """PutObject.  Where two writers meet and one of them has a condition, S3 asks the loser to try again."""
    attempts = attempts_of(client)
    for attempt in range(1, attempts + 1):
        try:
            client.put_object(Bucket=bucket, Key=key, Body=data, **condition)
            return
        except Exception as error:
            if error_code(error) not in _RACING or attempt == attempts:
                raise
            _back_off(attempt)


def _back_off(attempt: int) -> None:
    time.sleep(random.uniform(0.05, 0.2 * 2**attempt))  # noqa: S311 -- jitter, not a secret
