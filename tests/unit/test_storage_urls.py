"""URLs as text."""

from pathlib import Path

import pytest

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.storage import basename, is_remote, join, normalise


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a b/ü/", "s3://bucket/a b/ü"),
        ("s3://bucket/100%25", "s3://bucket/100%25"),
        ("/data/run/", "/data/run"),
        ("/data/./run/../other", "/data/other"),
        ("/", "/"),
        ("file:///data/run/", "/data/run"),
        ("file:/data/run", "/data/run"),
        ("file://localhost/data/run", "/data/run"),
        ("file:///data/a%20b", "/data/a b"),
        ("relative/run", str(Path.cwd() / "relative/run")),
        ("~/run", str(Path.home() / "run")),
    ],
)
def test_every_spelling_has_one_normal_form(given: str, expected: str) -> None:
    assert normalise(given) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("s3://", "bucket name ''"),
        ("s3:///key", "bucket name ''"),
        ("s3://a bucket/key", "bucket name 'a bucket'"),
        ("s3a://bucket/key", "write s3://"),
        ("gs://bucket/key", "'gs' is not supported"),
        ("https://host/key", "'https' is not supported"),
        ("file://host/share", "absolute path"),
        ("~nobody-of-this-name/x", "home directory"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(given: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        normalise(given)


@pytest.mark.parametrize(
    ("url", "parts", "expected"),
    [
        ("s3://bucket", ("a", "b"), "s3://bucket/a/b"),
        ("s3://bucket/", ("/a/", "b/c"), "s3://bucket/a/b/c"),
        ("/data/", ("tier=small", "shard-0.parquet"), "/data/tier=small/shard-0.parquet"),
        ("/", ("a",), "/a"),
        ("/data", (), "/data"),
    ],
)
def test_join_puts_one_slash_between(url: str, parts: tuple[str, ...], expected: str) -> None:
    assert join(url, *parts) == expected


@pytest.mark.parametrize("part", ["", "/", "..", "a/../b", ".", "a//b"])
def test_join_never_leaves_the_folder(part: str) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        join("s3://bucket/run", part)


def test_basename_and_is_remote() -> None:
    assert basename("s3://bucket/run/part-0.parquet") == "part-0.parquet"
    assert basename("/data/run/") == "run"
    assert is_remote("s3://bucket/run")
    assert not is_remote("/data/run")
    assert not is_remote("file:///data/run")
