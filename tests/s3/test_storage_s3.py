"""What is particular to S3: failures that pass, failures that stay, credentials."""

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ceph_gateway import CephGateway, Keys
from flaky_front import FlakyFront

from hybrid_batch.core.errors import StorageError
from hybrid_batch.storage import Store, join, open_store, reading

pytestmark = pytest.mark.s3
DEAD_ENDPOINT = "http://127.0.0.1:9"
Call = Callable[[Store, str], object]
CALLS: dict[str, Call] = {
    "list": lambda store, url: store.list(url),
    "stat": lambda store, url: store.stat(url),
    "read": lambda store, url: store.read(url),
    "put": lambda store, url: store.put(url, b"x"),
    "put_if_absent": lambda store, url: store.put_if_absent(url + "-new", b"x"),
    "delete": lambda store, url: store.delete(url),
    "open_input": lambda store, url: store.open_input(url).read(),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


@contextmanager
def settings(**values: str | None) -> Iterator[None]:
    """AWS settings for the length of a block; None takes one away."""
    before = {name: os.environ.get(name) for name in values}
    _apply(values)
    try:
        yield
    finally:
        _apply(before)


def _apply(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def url(s3_folder: str) -> str:
    """An object that exists."""
    made = join(s3_folder, "object")
    open_store(made).put(made, b"content")
    return made


@pytest.fixture
def front(gateway: CephGateway, s3_bucket_url: str) -> Iterator[FlakyFront]:
    with FlakyFront(gateway.endpoint) as running, settings(AWS_ENDPOINT_URL=running.endpoint):
        yield running


def failure(call: Call, url: str) -> str:
    """First line of the StorageError that ``call`` ends in."""
    with pytest.raises(StorageError) as caught:
        call(open_store(url), url)
    message = str(caught.value)
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert os.environ.get(name, "unset") not in message
    assert url in message
    return message.splitlines()[0]


@calls
def test_trouble_that_passes_is_not_noticed(front: FlakyFront, url: str, call: Call) -> None:
    front.misbehave.extend(["slow_down", "reset"])
    call(open_store(url), url)
    assert not front.misbehave


def test_a_server_that_is_away_for_some_seconds_is_waited_for(front: FlakyFront, url: str) -> None:
    front.always = "reset"
    back = Timer(8.0, lambda: setattr(front, "always", None))
    back.start()
    assert open_store(url).read(url) == b"content"
    back.join()


def test_a_gateway_that_is_started_again_is_waited_for(gateway: CephGateway, url: str) -> None:
    gateway.kill_front_end()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(open_store(url).read, url)
        time.sleep(8.0)
        gateway.start_front_end()
        assert reading.result() == b"content"


@calls
def test_trouble_that_stays_becomes_an_error(front: FlakyFront, url: str, call: Call) -> None:
    front.always = "slow_down"
    with settings(AWS_MAX_ATTEMPTS="2"):
        assert "run again later" in failure(call, url)


def test_the_number_of_attempts_is_bounded(front: FlakyFront, url: str) -> None:
    front.always = "slow_down"
    before = front.requests
    with settings(AWS_MAX_ATTEMPTS="3"):
        assert "tried 3 times" in failure(CALLS["read"], url)
    assert front.requests - before == 3


def test_a_body_that_breaks_off_is_read_again(front: FlakyFront, s3_folder: str) -> None:
    url, data = join(s3_folder, "big"), os.urandom(3_000_000)
    store = open_store(url)
    store.put(url, data)
    front.misbehave.extend(["cut_body", "cut_body"])
    assert store.read(url) == data
    assert not front.misbehave


def test_a_put_whose_answer_was_lost_reports_a_complete_object(front: FlakyFront, s3_folder: str) -> None:
    url = join(s3_folder, "once")
    store = open_store(url)
    front.misbehave.append("lost_answer")
    assert not store.put_if_absent(url, b"ours")
    assert store.read(url) == b"ours"


def test_a_conflict_of_two_writers_is_tried_again(front: FlakyFront, s3_folder: str) -> None:
    url = join(s3_folder, "raced")
    front.misbehave.extend(["conflict", "conflict"])
    assert open_store(url).put_if_absent(url, b"x")
    front.misbehave.extend(["conflict", "conflict"])
    open_store(url).put(url, b"y")
    assert open_store(url).read(url) == b"y"


def test_only_the_needed_ranges_of_a_big_file_travel(front: FlakyFront, s3_folder: str) -> None:
    table = pa.table({"id": range(64), "blob": [os.urandom(60_000) for _ in range(64)]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=4, compression="none")
    url = join(s3_folder, "big.parquet")
    store = open_store(url)
    store.put(url, buffer.getvalue())
    before = front.body_bytes
    with reading(url), store.open_input(url) as file:
        assert pq.ParquetFile(file).read_row_group(7) == table.slice(28, 4)
    assert front.body_bytes - before < len(buffer.getvalue()) / 4


def test_a_break_while_a_file_is_read_is_a_storage_error(front: FlakyFront, url: str) -> None:
    with settings(AWS_MAX_ATTEMPTS="1"):
        file = open_store(url).open_input(url)
        front.always = "slow_down"
        with pytest.raises(StorageError, match="run again later"), reading(url):
            file.read()


def test_a_server_that_ignores_conditions_is_refused(front: FlakyFront, s3_folder: str) -> None:
    front.misbehave.extend(["pass", "pretend", "pretend"])
    with pytest.raises(StorageError, match="ignores If-None-Match"):
        open_store(s3_folder).check_writable(s3_folder)


def test_folder_markers_of_consoles_are_not_listed(gateway: CephGateway, s3_folder: str) -> None:
    bucket, _, key = s3_folder.removeprefix("s3://").partition("/")
    for marker in (f"{key}/", f"{key}/deeper/"):
        gateway.client().put_object(Bucket=bucket, Key=marker, Body=b"")
    assert open_store(s3_folder).list(s3_folder) == []


@calls
def test_a_missing_bucket_is_named(s3_bucket_url: str, call: Call) -> None:
    message = failure(call, "s3://no-such-bucket/run/object")
    assert "bucket 'no-such-bucket' does not exist or is not visible at endpoint http://127.0.0.1:" in message


def test_a_bucket_is_not_an_object(s3_bucket_url: str) -> None:
    assert "names a bucket" in failure(CALLS["put"], s3_bucket_url)


def test_a_key_that_pyarrow_cannot_open_is_an_error_of_ours(s3_folder: str) -> None:
    url = f"{s3_folder}//double"
    open_store(url).put(url, b"x")
    assert "cannot open" in failure(CALLS["open_input"], url)


CHECK: Call = lambda store, url: store.check_writable(url)  # noqa: E731 -- one more call beside CALLS


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "not-the-secret"}, "credentials were refused: check AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "NOBODY"}, "credentials were refused: check AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no AWS credentials found: set AWS_ACC"),
        ({"AWS_PROFILE": "nobody"}, "profile named by AWS_PROFILE is not in"),
        ({"AWS_ENDPOINT_URL": DEAD_ENDPOINT}, f"endpoint {DEAD_ENDPOINT} cannot be reached"),
    ],
    ids=["secret", "key", "none", "profile", "endpoint"],
)
def test_settings_that_cannot_work_are_told_before_a_run(
    s3_folder: str, changed: dict[str, str | None], expected: str
) -> None:
    with settings(**changed):
        assert expected in failure(CHECK, s3_folder)


@calls
def test_a_dead_endpoint_is_named_by_every_call(url: str, call: Call) -> None:
    with settings(AWS_ENDPOINT_URL=DEAD_ENDPOINT, AWS_MAX_ATTEMPTS="1"):
        assert f"endpoint {DEAD_ENDPOINT} cannot be reached" in failure(call, url)


@calls
def test_wrong_keys_are_told_by_every_call(url: str, call: Call) -> None:
    with settings(AWS_SECRET_ACCESS_KEY="not-the-secret"):
        assert any(text in failure(call, url) for text in ("credentials were refused", "the keys are wrong"))


def test_why_a_look_up_is_refused_is_told(url: str) -> None:
    with settings(AWS_ACCESS_KEY_ID="NOBODY"):
        assert "credentials were refused" in failure(CALLS["stat"], url)


def test_a_password_in_the_endpoint_is_refused_and_not_shown(s3_folder: str) -> None:
    with settings(AWS_ENDPOINT_URL="http://user:hunter2@127.0.0.1:9"):
        with pytest.raises(StorageError, match="holds a user name or password") as caught:
            open_store(s3_folder).list(s3_folder)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (set(), "needs s3:ListBucket on arn:aws:s3:::"),
        ({"s3:ListBucket"}, "needs s3:PutObject on arn:aws:s3:::"),
        ({"s3:ListBucket", "s3:PutObject"}, "needs s3:DeleteObject on arn:aws:s3:::"),
    ],
    ids=["nothing", "list", "list and put"],
)
def test_the_right_that_is_missing_is_named(
    gateway: CephGateway, guest: Keys, allowed: set[str], expected: str
) -> None:
    url = gateway.create_bucket(f"shared-{len(allowed)}")
    bucket = url.removeprefix("s3://")
    if allowed:
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": ["arn:aws:iam:::user/guest"]},
            "Action": sorted(allowed),
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        gateway.client().put_bucket_policy(Bucket=bucket, Policy=policy)
    with settings(AWS_ACCESS_KEY_ID=guest.access_key, AWS_SECRET_ACCESS_KEY=guest.secret_key):
        assert expected in failure(CHECK, url)


@pytest.fixture(scope="module")
def guest(gateway: CephGateway, s3_bucket_url: str) -> Keys:
    return gateway.create_user("guest")


def test_credentials_that_are_renewed_in_mid_run_are_used(
    gateway: CephGateway, s3_bucket_url: str, tmp_path: Path
) -> None:
    """By a credential process, as companies use it; the old keys stop working at the moment of renewal."""
    keys = gateway.create_user("short-lived")
    answer, config = tmp_path / "answer.json", tmp_path / "config"
    reader = f"{sys.executable} -c \"print(open('{answer}').read())\""
    config.write_text(f"[profile renewed]\ncredential_process = {reader}\n")
    _write_credentials(answer, keys)
    changed = {"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "renewed"}
    with settings(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None, **changed):
        client = _bucket_client(gateway, keys)
        client.create_bucket(Bucket="renewed")
        url = "s3://renewed/object"
        store = open_store(url)
        store.put(url, b"x")
        assert store.open_input(url).read() == b"x"
        _write_credentials(answer, gateway.replace_keys("short-lived"))
        assert store.open_input(url).read() == b"x"
        assert store.read(url) == b"x"


def _write_credentials(answer: Path, keys: Keys) -> None:
    # botocore renews what ends within ten minutes at every call.
    answer.write_text(
        json.dumps(
            {
                "Version": 1,
                "AccessKeyId": keys.access_key,
                "SecretAccessKey": keys.secret_key,
                "Expiration": _soon(),
            }
        )
    )


def _soon() -> str:
    from datetime import UTC, datetime, timedelta

    return (datetime.now(UTC) + timedelta(minutes=5)).isoformat()


def _bucket_client(gateway: CephGateway, keys: Keys) -> object:
    import botocore.session

    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=gateway.endpoint,
        region_name="us-east-1",
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
    )
