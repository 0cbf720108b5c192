"""What every store can do, whatever holds its bytes."""

import builtins
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

TEMP_PREFIX = ".hybrid-batch-tmp-"
"""Names that begin so are unfinished writes and write probes.  A process killed in the middle may leave one;
it is never listed and may be deleted whenever no run writes to the folder."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as its store knows it.

    ``url`` is normalised, ``size`` is in bytes.  ``etag`` changes when the content is replaced: S3's ETag
    without quotes, or modification time (ns) and size of a local file.  Compare it for equality only.
    ``modified_us`` is when it was written by the store's clock, in microseconds since the epoch; S3 tells it in whole
    seconds in some answers, so it is no part of a comparison.
    """

    url: str
    size: int
    etag: str
    modified_us: int = field(default=0, compare=False)


class Store(Protocol):
    """Objects by URL.  Methods take full URLs, are safe to call from many threads, and raise StorageError
    whose first line names the URL, the cause and what to do.  A store opens nothing before its first call."""

    def list(self, prefix_url: str) -> list[ObjectInfo]:
        """All objects below the folder ``prefix_url``, at any depth, sorted by URL.

        Left out, and nothing else: names that begin with a dot (and what is below such a folder), and the
        empty marker objects by which S3 consoles show a folder.  ``[]`` for a folder that is not there.  A
        URL that is no folder but an object lists that object.
        """
        ...

    def folders(self, prefix_url: str, beginning: str = "") -> "builtins.list[str]":
        """URLs of the folders directly below the folder ``prefix_url`` whose names start with ``beginning``, sorted.

        What lies in them is not looked at, so the call is cheap however much that is.  Names that begin with a dot
        are left out.  ``[]`` for a folder that is not there.
        """
        ...

    def list_temporary(self, prefix_url: str) -> "builtins.list[ObjectInfo]":
        """What :meth:`list` leaves out because its name begins with ``TEMP_PREFIX``: unfinished writes and probes below
        the folder ``prefix_url``, at any depth, sorted by URL."""
        ...

    def stat(self, url: str) -> ObjectInfo | None:
        """Size and ETag of one object, None if it is not there (a folder is not an object)."""
        ...

    def read(self, url: str) -> bytes:
        """The whole object.  Raises StorageError if it is not there."""
        ...

    def read_if_present(self, url: str) -> bytes | None:
        """The whole object, None if it is not there."""
        ...

    def put_if_absent(self, url: str, data: bytes) -> bool:
        """Create the object unless it exists; atomic against every other writer, never half visible.

        True: this call wrote it.  False: a complete object is there.  Normally another writer's; where the
        answer to our own write was lost and the request repeated, it can be ours.  A caller that wants to
        know whose content won reads it back; a caller that wants it to exist needs nothing more.
        """
        ...

    def put(self, url: str, data: bytes) -> None:
        """Create or replace the object; a reader sees the old or the new content, whole."""
        ...

    def delete(self, url: str) -> None:
        """Remove the object; no error if it is not there."""
        ...

    def open_input(self, url: str) -> "pa.NativeFile":
        """Random access to an object of any size; only the ranges that are read are fetched.

        Later reads on the file raise OSError: wrap them in ``hybrid_batch.storage.reading(url)``.
        Close the file soon: it keeps the credentials it was opened with (good for ten minutes at least).
        """
        ...

    def check_writable(self, prefix_url: str) -> None:
        """Prove, by a probe object that is removed again, that objects can be listed, created once and only
        once, and deleted below ``prefix_url``.  Raises StorageError within seconds if not."""
        ...
