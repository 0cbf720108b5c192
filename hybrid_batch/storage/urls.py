"""Text work on URLs of objects.  Nothing here touches a disk or a network."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

from hybrid_batch.core.errors import ConfigError

_S3 = "s3://"
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")


def is_remote(url: str) -> bool:
    """True for an object store (``s3://``), False for a local path or ``file:`` URL."""
    return url.startswith(_S3)


def normalise(url: str) -> str:
    """The one spelling of ``url``: ``s3://bucket/key`` or an absolute local path, no trailing slash.

    ``~`` and ``~user`` are expanded and ``file:`` URLs become paths.  Raises ConfigError for an empty
    URL, a missing or impossible bucket name, and every scheme other than ``s3`` and ``file``.
    """
    if not url.strip():
        raise ConfigError("storage URL is empty; allowed: a local path, file:///path or s3://bucket/key")
    if is_remote(url):
        bucket, key = split_s3(url)
        return f"{_S3}{bucket}/{key}".rstrip("/")
    return _local_path(url)


def join(url: str, *parts: str) -> str:
    """``url`` with ``parts`` below it, separated by single slashes; ``join("s3://b", "a/", "c")`` is
    ``s3://b/a/c``.  Raises ConfigError for a part that is empty or holds an empty, ``.`` or ``..`` name: S3
    and a disk would understand it differently."""
    names = [part.strip("/") for part in parts]
    for part, name in zip(parts, names, strict=True):
        if any(segment in ("", ".", "..") for segment in name.split("/")):
            raise ConfigError(f"path part {part!r} below {url} is not allowed: empty, '.' and '..' names are refused")
    return "/".join([url.rstrip("/"), *names])


def basename(url: str) -> str:
    """The last name of ``url``: ``part-0.parquet`` of ``s3://bucket/run/part-0.parquet``."""
    return url.rstrip("/").rpartition("/")[2]


def split_s3(url: str) -> tuple[str, str]:
    """Bucket and key of an ``s3://`` URL; the key is ``""`` for the bucket itself.  Raises ConfigError."""
    bucket, _, key = url.removeprefix(_S3).partition("/")
    if not _BUCKET.match(bucket):
        raise ConfigError(f"{url}: bucket name {bucket!r} is not allowed; the form is s3://bucket/key")
    return bucket, key


def _local_path(url: str) -> str:
    scheme = _SCHEME.match(url)
    if url.startswith("file:"):
        rest = url.removeprefix("file:").removeprefix("//").removeprefix("localhost")
        if not rest.startswith("/"):
            raise ConfigError(f"{url}: a file URL holds an absolute path, as in file:///data/run")
        return os.path.normpath(unquote(rest))
    if scheme:
        hint = " (write s3:// for s3a:// and s3n://)" if scheme[1].lower() in ("s3a", "s3n") else ""
        raise ConfigError(f"{url}: scheme {scheme[1]!r} is not supported; allowed: a path, file:// and s3://{hint}")
    try:
        return os.path.normpath(Path(url).expanduser().absolute())
    except RuntimeError as error:
        raise ConfigError(f"{url}: {error}") from error
