"""What is particular to local folders: crashes, links, permissions, full disks."""

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hybrid_batch.core.errors import StorageError
from hybrid_batch.storage import TEMP_PREFIX, Store, join, open_store

_NOBODY = 65534
_OBJECT_BYTES = 3_000_000
_WRITER = f"""
import sys
from hybrid_batch.storage import join, open_store
root, number = sys.argv[1], int(sys.argv[2])
store = open_store(root)
for number in range(number, number + 200):
    store.put_if_absent(join(root, f"object-{{number}}"), bytes([number % 256]) * {_OBJECT_BYTES})
    print("first object stands", flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def store(root: str) -> Store:
    return open_store(root)


def test_a_writer_killed_at_any_moment_leaves_no_partial_object(root: str, store: Store) -> None:
    moments = random.Random(7)
    for start in range(0, 2_000, 200):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, root, str(start)], stdout=subprocess.PIPE, text=True)
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "first object stands\n"
            time.sleep(moments.uniform(0, 0.05))
            writer.kill()
    assert store.list(root)
    for info in store.list(root):
        number = int(info.url.rpartition("-")[2])
        assert store.read(info.url) == bytes([number % 256]) * _OBJECT_BYTES


def test_the_remains_of_a_killed_writer_are_invisible_and_harmless(root: str, store: Store) -> None:
    store.put(join(root, "object"), b"x")
    (Path(root) / f"{TEMP_PREFIX}0123").write_bytes(b"half an obj")
    assert [info.url for info in store.list(root)] == [join(root, "object")]
    assert store.put_if_absent(join(root, "other"), b"y")


def test_no_temporary_file_remains(root: str, store: Store) -> None:
    store.put(join(root, "a"), b"x")
    store.put_if_absent(join(root, "b"), b"x")
    store.put_if_absent(join(root, "b"), b"x")
    store.check_writable(root)
    assert sorted(os.listdir(root)) == ["a", "b"]


def test_new_files_obey_the_umask(root: str, store: Store) -> None:
    before = os.umask(0o027)
    try:
        store.put_if_absent(join(root, "object"), b"x")
    finally:
        os.umask(before)
    assert (Path(root) / "object").stat().st_mode & 0o777 == 0o640


def test_links_to_folders_are_followed_once(root: str, store: Store, tmp_path: Path) -> None:
    store.put(join(root, "real/object"), b"x")
    elsewhere = tmp_path / "elsewhere"
    store.put(str(elsewhere / "other"), b"x")
    (Path(root) / "loop").symlink_to(root)
    (Path(root) / "linked").symlink_to(elsewhere)
    (Path(root) / "dangling").symlink_to(tmp_path / "nothing")
    assert [info.url for info in store.list(root)] == [join(root, "linked/other"), join(root, "real/object")]


def test_pipes_and_sockets_are_no_objects(root: str, store: Store) -> None:
    Path(root).mkdir()
    os.mkfifo(join(root, "pipe"))
    assert store.list(root) == []
    assert store.stat(join(root, "pipe")) is None


def test_file_urls_and_paths_are_the_same_place(root: str, store: Store) -> None:
    store.put(f"file://{root}/a%20b", b"x")
    assert store.read(join(root, "a b")) == b"x"
    assert store.list(f"file://{root}")[0].url == join(root, "a b")


def test_a_file_in_the_place_of_a_folder_is_named(root: str, store: Store) -> None:
    store.put(join(root, "file"), b"x")
    for write in (store.put, store.put_if_absent):
        with pytest.raises(StorageError, match="a part of the path is a file, not a folder"):
            write(join(root, "file/object"), b"x")


def test_a_folder_in_the_place_of_a_file_is_named(root: str, store: Store) -> None:
    store.put(join(root, "folder/object"), b"x")
    for write in (store.put, store.put_if_absent):
        with pytest.raises(StorageError, match="this is a folder, not a file"):
            write(join(root, "folder"), b"x")
    for read in (store.read, store.delete):
        with pytest.raises(StorageError, match="this is a folder, not a file"):
            read(join(root, "folder"))


def test_a_name_that_is_too_long_is_told(root: str, store: Store) -> None:
    with pytest.raises(StorageError, match="name is too long"):
        store.put_if_absent(join(root, "x" * 300), b"x")


@contextmanager
def _without_root_rights() -> Iterator[None]:
    """Root may write everywhere; give that up for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "secret").write_bytes(b"x")
        (folder / "secret").chmod(0)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def test_a_read_only_folder_is_told_before_a_run(read_only_folder: Path) -> None:
    url = str(read_only_folder)
    with _without_root_rights():
        for folder in (url, join(url, "below")):
            with pytest.raises(StorageError, match=f"cannot write {folder}.*permission denied"):
                open_store(url).check_writable(folder)


def test_a_file_that_may_not_be_read_is_an_error_not_an_absence(read_only_folder: Path) -> None:
    url = str(read_only_folder / "secret")
    store = open_store(url)
    store.open_input(__file__).close()  # a user without rights may not even load the library behind it
    with _without_root_rights():
        for read in (store.read, store.read_if_present, store.open_input):
            with pytest.raises(StorageError, match="permission denied"):
                read(url)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield str(folder)
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_keeps_what_was_there(full_disk: str) -> None:
    store, url = open_store(full_disk), join(full_disk, "object")
    store.put(url, b"old")
    for write in (store.put, store.put_if_absent):
        with pytest.raises(StorageError, match="the disk is full: free space"):
            write(url if write == store.put else f"{url}-new", b"x" * 100_000)
    assert store.read(url) == b"old"
    assert os.listdir(full_disk) == ["object"]


def test_a_write_that_breaks_off_leaves_nothing(root: str, store: Store) -> None:
    """The operating system refuses the second half of the file."""
    store.put(join(root, "object"), b"old")
    script = (
        "import resource, signal, sys\n"
        "from hybrid_batch.storage import open_store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, {resource.RLIM_INFINITY}))\n"
        "open_store(sys.argv[1]).put(sys.argv[1], b'x' * 100_000)\n"
    )
    command = [sys.executable, "-c", script, join(root, "object")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "StorageError: cannot write" in done.stderr
    assert store.read(join(root, "object")) == b"old"
    assert os.listdir(root) == ["object"]


def test_local_work_loads_no_s3_library() -> None:
    script = (
        "import sys, hybrid_batch.storage as storage\n"
        "storage.open_store('/tmp').list('/nothing')\n"
        "storage.open_store('s3://bucket')\n"
        "print([name for name in ('boto3', 'botocore', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
