"""What every store promises, asked of the local store and of S3 alike."""

import io
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybrid_batch.core.errors import InputError, StorageError
from hybrid_batch.storage import TEMP_PREFIX, Store, basename, join, open_store, reading
from tests.support.driver import wait

_RACER = """
import sys
from hybrid_batch.storage import join, open_store
root, name, keys = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(root)
sys.stdin.readline()
print(*[k for k in range(keys) if store.put_if_absent(join(root, f"key-{k}"), name.encode() * 20_000)])
"""


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder of each kind of store."""
    if request.param == "local":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('s3_bucket_url')}/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(root: str) -> Store:
    return open_store(root)


def test_an_object_is_read_back_as_it_was_put(root: str, store: Store) -> None:
    url = join(root, "a/b.bin")
    store.put(url, b"first")
    store.put(url, b"second one")
    assert store.read(url) == b"second one"
    assert store.read_if_present(url) == b"second one"


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 40_000], ids=["empty", "one", "10 MB"])
def test_sizes(root: str, store: Store, data: bytes) -> None:
    url = join(root, "object")
    assert store.put_if_absent(url, data)
    found = store.stat(url)
    assert found is not None
    assert found.size == len(data)
    assert store.read(url) == data


def test_put_if_absent_keeps_the_first_object(root: str, store: Store) -> None:
    url = join(root, "once")
    assert store.put_if_absent(url, b"first")
    assert not store.put_if_absent(url, b"second")
    assert store.read(url) == b"first"


def test_a_missing_object_is_none_or_an_error_that_names_it(root: str, store: Store) -> None:
    url = join(root, "nothing")
    assert store.stat(url) is None
    assert store.read_if_present(url) is None
    for read in (store.read, store.open_input):
        with pytest.raises(StorageError, match="nothing"):
            read(url)


def test_a_missing_folder_lists_nothing(root: str, store: Store) -> None:
    assert store.list(join(root, "no/such/folder")) == []


def test_delete_is_repeatable(root: str, store: Store) -> None:
    url = join(root, "gone")
    store.put(url, b"x")
    store.delete(url)
    store.delete(url)
    assert store.stat(url) is None
    assert store.put_if_absent(url, b"again")


def test_a_listing_is_deep_sorted_and_of_this_folder_alone(root: str, store: Store) -> None:
    names = ["run/b", "run/a/2", "run/a/10", "run/a-b", "run/_SUCCESS", "run2/x", "runner"]
    for name in names:
        store.put(join(root, name), name.encode())
    listed = store.list(join(root, "run"))
    expected = sorted(join(root, name) for name in names if name.startswith("run/"))
    assert [info.url for info in listed] == expected
    assert [info.size for info in listed] == [len(url) - len(root) - 1 for url in expected]


def test_a_listing_leaves_out_names_with_a_dot_and_nothing_else(root: str, store: Store) -> None:
    for name in [".hidden", "a/.hidden", ".folder/x", "a/visible", "_temporary/y"]:
        store.put(join(root, name), b"x")
    assert [info.url for info in store.list(root)] == [join(root, "_temporary/y"), join(root, "a/visible")]


def test_unfinished_writes_and_probes_are_listed_apart(root: str, store: Store) -> None:
    temporary = [f"{TEMP_PREFIX}probe-1", f"a/{TEMP_PREFIX}x", f"a/tier=small/{TEMP_PREFIX}y"]
    for name in [
        *temporary,
        ".hidden",
        "a/visible",
        f"a/x{TEMP_PREFIX}z",
        f".folder/{TEMP_PREFIX}x",
        f"{TEMP_PREFIX}f/x",
    ]:
        store.put(join(root, name), name.encode())
    found = store.list_temporary(root)
    assert [info.url for info in found] == sorted(join(root, name) for name in temporary)
    assert [info.size for info in found] == [len(info.url) - len(root) - 1 for info in found]
    assert store.list_temporary(join(root, "no/such/folder")) == []
    assert store.list_temporary(join(root, "a/visible")) == []
    for info in found:
        store.delete(info.url)
    assert store.list_temporary(root) == []
    assert [info.url for info in store.list(root)] == [join(root, "a/visible"), join(root, f"a/x{TEMP_PREFIX}z")]


def test_the_time_of_an_object_is_that_of_its_last_write(root: str, store: Store) -> None:
    first, later = join(root, "first"), join(root, "later")
    store.put(first, b"x")
    before = store.stat(first)
    assert before is not None
    # S3 tells whole seconds in some answers: so long a store may be behind itself.
    wait(lambda: bool(store.put(later, b"x") or store.list(root)[1].modified_us > before.modified_us + 1_000_000), 30)
    listed = {info.url: info.modified_us for info in store.list(root)}
    assert listed[later] > listed[first] >= before.modified_us
    assert abs(listed[later] - time.time() * 1_000_000) < 3_600_000_000


def test_listing_an_object_gives_that_object(root: str, store: Store) -> None:
    url = join(root, "one.parquet")
    store.put(url, b"x")
    assert store.list(url) == [store.stat(url)]


def test_the_etag_changes_with_the_content(root: str, store: Store) -> None:
    url = join(root, "tagged")
    store.put(url, b"one")
    first = store.stat(url)
    assert first == store.stat(url)
    store.put(url, b"two")
    second = store.stat(url)
    assert first is not None
    assert second is not None
    assert first.etag != second.etag
    assert '"' not in second.etag


def test_more_than_one_page_of_keys(root: str, store: Store) -> None:
    urls = [join(root, f"part-{number:05}") for number in range(2_050)]
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda url: store.put_if_absent(url, b"x"), urls))
    assert [info.url for info in store.list(root)] == urls


@pytest.mark.parametrize("name", ["two words.txt", "naïve-日本語-🦊.json", "100%25 #1?x=&y+z.txt", "tier=small/a:b"])
def test_names_of_all_kinds(root: str, store: Store, name: str) -> None:
    url = join(root, name)
    assert store.put_if_absent(url, b"x")
    assert [info.url for info in store.list(root)] == [url]
    assert store.stat(url) == store.list(root)[0]
    with store.open_input(url) as file:
        assert file.read() == b"x"
    assert basename(url) == name.rpartition("/")[2]
    store.delete(url)
    assert store.list(root) == []


def test_threads_that_race_for_a_key_have_one_winner(root: str, store: Store) -> None:
    start = threading.Barrier(16)

    def race(racer: int, url: str) -> bool:
        start.wait()
        return store.put_if_absent(url, bytes([racer]) * 300_000)

    with ThreadPoolExecutor(16) as pool:
        for round_ in range(5):
            url = join(root, f"key-{round_}")
            won = list(pool.map(lambda racer, url=url: race(racer, url), range(16)))
            assert won.count(True) == 1
            assert store.read(url) == bytes([won.index(True)]) * 300_000


def test_processes_that_race_for_keys_have_one_winner_each(root: str, store: Store) -> None:
    names, keys = "abcdef", 15
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, root, name, str(keys)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = {
        name: [int(key) for key in racer.communicate(timeout=120)[0].split()]
        for name, racer in zip(names, racers, strict=True)
    }
    assert sorted(key for keys_won in won.values() for key in keys_won) == list(range(keys))
    for name, keys_won in won.items():
        for key in keys_won:
            assert store.read(join(root, f"key-{key}")) == name.encode() * 20_000


def test_parquet_row_groups_are_read_by_range(root: str, store: Store) -> None:
    table = pa.table({"id": range(8_000), "prompt": [f"prompt {number}" for number in range(8_000)]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=1_000)
    url = join(root, "queries.parquet")
    store.put(url, buffer.getvalue())
    with reading(url), store.open_input(url) as file:
        assert file.size() == len(buffer.getvalue())
        part = pq.ParquetFile(file).read_row_group(5, columns=["prompt"])
    assert part == table.slice(5_000, 1_000).select(["prompt"])


def _parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"prompt": [f"prompt {number}" for number in range(20_000)]}), buffer)
    return buffer.getvalue()


def _read_parquet(store: Store, url: str) -> pa.Table:
    with reading(url), store.open_input(url) as file, pq.ParquetFile(file) as parquet:
        return parquet.read()


def test_damage_inside_a_file_is_the_fault_of_the_input(root: str, store: Store) -> None:
    whole, url = _parquet(), join(root, "damaged.parquet")
    store.put(url, whole[:5_000] + whole[9_000:])
    with pytest.raises(InputError, match=r"damaged\.parquet: the file is damaged"):
        _read_parquet(store, url)


def test_what_pyarrow_says_of_another_format_is_left_to_the_caller(root: str, store: Store) -> None:
    url = join(root, "text.parquet")
    store.put(url, b"this is no Parquet file")
    with pytest.raises(pa.ArrowInvalid, match="not a parquet file"):
        _read_parquet(store, url)


def test_a_writable_folder_passes_the_check_and_stays_as_it_was(root: str, store: Store) -> None:
    store.put(join(root, "kept"), b"x")
    before = store.list(root)
    store.check_writable(root)
    store.check_writable(join(root, "not", "yet", "there"))
    assert store.list(root) == before


def test_a_folder_is_not_an_object(root: str, store: Store) -> None:
    store.put(join(root, "folder/object"), b"x")
    assert store.stat(join(root, "folder")) is None


def test_folders_are_listed_without_what_lies_in_them(root: str, store: Store) -> None:
    for name in [
        "runs/night-1/plan.json",
        "runs/night-2/a/b",
        "runs/nights/x",
        "runs/note.txt",
        "runs/.tmp/x",
        "other/y",
    ]:
        store.put(join(root, name), b"x")
    runs = join(root, "runs")
    assert store.folders(runs) == [join(runs, name) for name in ("night-1", "night-2", "nights")]
    assert store.folders(f"{runs}/", "night-") == [join(runs, "night-1"), join(runs, "night-2")]
    assert store.folders(runs, "day") == []
    assert store.folders(join(root, "nowhere")) == []
    assert store.folders(root) == [join(root, "other"), runs]
