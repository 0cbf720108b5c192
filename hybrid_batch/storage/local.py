"""Objects as files of a local (or network-mounted) folder."""

import builtins
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

from hybrid_batch.core.errors import StorageError
from hybrid_batch.storage.base import TEMP_PREFIX, ObjectInfo
from hybrid_batch.storage.urls import join, normalise

if TYPE_CHECKING:
    import pyarrow as pa

_MISSING = (FileNotFoundError, NotADirectoryError)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
_WHAT_TO_DO = {
    errno.ENOENT: "no such file or folder",
    errno.EACCES: "permission denied: the user of this process needs access to the folder",
    errno.EPERM: "operation not permitted for the user of this process",
    errno.EROFS: "the file system is mounted read-only: choose another folder",
    errno.ENOSPC: "the disk is full: free space or choose another folder",
    errno.EDQUOT: "the disk quota is used up: free space or choose another folder",
    errno.EISDIR: "this is a folder, not a file",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EIO: "the disk or network mount reports an input/output error",
    errno.ESTALE: "the network mount lost this file: mount it again",
    errno.EMFILE: "this process has too many open files: raise `ulimit -n`",
}


class LocalStore:
    """Store over paths.  Writes go through a temporary file of the same folder and are synced to disk."""

    def list(self, prefix_url: str) -> list[ObjectInfo]:
        """See Store.list.  Links to folders are followed, each folder once."""
        root = Path(normalise(prefix_url))
        with storage_errors(str(root), "list"):
            if root.is_file():
                return [_info(str(root), root.stat())]
            return sorted(_walk(root, set(), _is_visible), key=lambda found: found.url)

    def list_temporary(self, prefix_url: str) -> "builtins.list[ObjectInfo]":
        """See Store.list_temporary."""
        root = Path(normalise(prefix_url))
        with storage_errors(str(root), "list"):
            return sorted(_walk(root, set(), _is_temporary), key=lambda found: found.url)

    def folders(self, prefix_url: str, beginning: str = "") -> builtins.list[str]:
        """See Store.folders.  An empty folder counts."""
        root = Path(normalise(prefix_url))
        with storage_errors(str(root), "list"):
            found = [path for path in _entries(root) if _is_visible(path.name) and path.name.startswith(beginning)]
            return sorted(str(path) for path in found if path.is_dir())

    def stat(self, url: str) -> ObjectInfo | None:
        """See Store.stat."""
        path = normalise(url)
        with storage_errors(path, "look up"):
            status = _status(Path(path))
            return _info(path, status) if status and S_ISREG(status.st_mode) else None

    def read(self, url: str) -> bytes:
        """See Store.read."""
        path = Path(normalise(url))
        with storage_errors(str(path), "read"):
            return path.read_bytes()

    def read_if_present(self, url: str) -> bytes | None:
        """See Store.read_if_present."""
        path = Path(normalise(url))
        with storage_errors(str(path), "read"):
            try:
                return path.read_bytes()
            except _MISSING:
                return None

    def put_if_absent(self, url: str, data: bytes) -> bool:
        """See Store.put_if_absent.  The file system must support hard links: only a link makes a complete
        file visible under its name and refuses if the name is taken."""
        path = Path(normalise(url))
        with storage_errors(str(path), "write"):
            if path.is_file():
                return False
            with _finished_temp_file(path, data) as temp:
                written = _link(temp, path)
            _sync_folder(path.parent)
            return written

    def put(self, url: str, data: bytes) -> None:
        """See Store.put."""
        path = Path(normalise(url))
        with storage_errors(str(path), "write"):
            with _finished_temp_file(path, data) as temp:
                temp.replace(path)
            _sync_folder(path.parent)

    def delete(self, url: str) -> None:
        """See Store.delete.  The folder stays, even when it is empty now."""
        path = Path(normalise(url))
        with storage_errors(str(path), "delete"), suppress(*_MISSING):
            path.unlink()

    def open_input(self, url: str) -> "pa.NativeFile":
        """See Store.open_input."""
        import pyarrow as pa

        path = normalise(url)
        with storage_errors(path, "open"):
            return pa.OSFile(path, "rb")

    def check_writable(self, prefix_url: str) -> None:
        """See Store.check_writable.  Creates the folder if it is not there."""
        folder = normalise(prefix_url)
        probe = join(folder, f"{TEMP_PREFIX}probe-{uuid.uuid4().hex}")
        self.put_if_absent(probe, b"probe")
        with storage_errors(folder, "list"), os.scandir(folder) as entries:
            next(entries, None)
        self.delete(probe)


@contextmanager
def storage_errors(url: str, action: str) -> Iterator[None]:
    """Turn OSError (pyarrow's too) into StorageError that names URL, cause and remedy."""
    try:
        yield
    except OSError as error:
        why = _WHAT_TO_DO.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
        where = f" (at {error.filename})" if error.filename and str(error.filename) != url else ""
        raise StorageError(f"cannot {action} {url}: {why}{where}") from error


def _info(path: str, status: os.stat_result) -> ObjectInfo:
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(path, status.st_size, etag, status.st_mtime_ns // 1000)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except _MISSING:
        return None


def _walk(folder: Path, seen: set[tuple[int, int]], wanted: Callable[[str], bool]) -> Iterator[ObjectInfo]:
    """Files of the names that are ``wanted``, below every folder whose name does not begin with a dot."""
    status = _status(folder)
    if status is None or (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for path in _entries(folder):
        if not (wanted(path.name) or _is_visible(path.name)):
            continue
        # A file deleted since the folder was read is not there, and a dangling link never was.
        found = _status(path)
        if found and S_ISREG(found.st_mode) and wanted(path.name):
            yield _info(str(path), found)
        elif found and S_ISDIR(found.st_mode) and _is_visible(path.name):
            yield from _walk(path, seen, wanted)


def _entries(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(folder.iterdir())
    except _MISSING:
        return ()


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _is_temporary(name: str) -> bool:
    return name.startswith(TEMP_PREFIX)


@contextmanager
def _finished_temp_file(path: Path, data: bytes) -> Iterator[Path]:
    """A complete, synced file beside ``path``; what is left of it is removed at the end."""
    _make_folders(path.parent)
    temp = path.parent / f"{TEMP_PREFIX}{uuid.uuid4().hex}"
    try:
        with temp.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temp
    finally:
        # `put` has moved it away; on a failing disk it may never have been made.
        temp.unlink(missing_ok=True)


def _link(temp: Path, path: Path) -> bool:
    try:
        path.hardlink_to(temp)
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from None
        # On NFS a repeated request finds the link that its first try made.
        return path.exists() and path.samefile(temp)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise StorageError(
            f"cannot write {path}: its file system refuses hard links ({error.strerror}), without which a "
            "result cannot be committed exactly once: choose another folder (ext4, xfs, NFS) or s3://"
        ) from error
    return True


def _make_folders(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
        return
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make new names in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
