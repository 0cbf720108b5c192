"""The only room that knows URLs: local paths, ``file://`` and ``s3://bucket/key``.

::

    store = open_store("s3://bucket/nightly")
    store.check_writable("s3://bucket/nightly")
    if not store.put_if_absent(join("s3://bucket/nightly", "run", "shard-000000.parquet"), data):
        ...                                      # somebody's complete object is there already

Endpoint, region and credentials of S3 are the standard AWS settings (``AWS_ENDPOINT_URL``,
``AWS_REGION``, profiles, roles, session tokens ...).  Needed rights: ``s3:ListBucket``, ``s3:GetObject``,
``s3:PutObject``, ``s3:DeleteObject``.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from hybrid_batch.core.errors import InputError
from hybrid_batch.storage.base import TEMP_PREFIX, ObjectInfo, Store
from hybrid_batch.storage.local import LocalStore, storage_errors
from hybrid_batch.storage.s3 import S3Store
from hybrid_batch.storage.s3_errors import s3_errors
from hybrid_batch.storage.urls import basename, is_remote, join, normalise

__all__ = [
    "TEMP_PREFIX",
    "ObjectInfo",
    "Store",
    "basename",
    "is_remote",
    "join",
    "normalise",
    "open_store",
    "reading",
]


def open_store(url: str) -> Store:
    """The store that holds ``url``.  Cheap, opens no connection; make one wherever it is needed.

    Raises ConfigError for a URL that is not allowed.
    """
    return S3Store() if is_remote(normalise(url)) else LocalStore()


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Around the reads of a file from ``open_input(url)``.

    A store that fails becomes StorageError.  Damage that pyarrow meets inside the bytes and reports as OSError
    becomes InputError; its other complaints about content (ArrowException) pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if _is_damage(error):
            raise InputError(f"{url}: the file is damaged: {str(error).splitlines()[0]}") from error
        with s3_errors(url, "s3:GetObject", "read") if is_remote(url) else storage_errors(url, "read"):
            raise


def _is_damage(error: OSError) -> bool:
    """Disks give a number, S3 its own words; a plain OSError with neither is about the content."""
    return type(error) is OSError and error.errno is None and "AWS Error" not in str(error)
