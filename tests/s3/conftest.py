"""A real S3 server per test session, reached by the standard AWS settings."""

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ceph_gateway import HOW_TO_INSTALL, CephGateway, missing_programs


def _aws_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


@pytest.fixture(scope="session")
def gateway() -> Iterator[CephGateway]:
    """Skips where Ceph is not installed, unless HYBRID_BATCH_REQUIRE_S3=1 says that it must be."""
    if missing := missing_programs():
        reason = f"S3 tests need Ceph ({', '.join(missing)} not found): {HOW_TO_INSTALL}"
        if os.environ.get("HYBRID_BATCH_REQUIRE_S3") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with CephGateway() as running:
        yield running


@pytest.fixture(scope="session")
def s3_bucket_url(gateway: CephGateway) -> Iterator[str]:
    """URL of a fresh bucket; the AWS_* variables of this process point at it until the session ends."""
    before = _aws_settings()
    for name in before:
        del os.environ[name]
    os.environ.update(gateway.environment())
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    yield gateway.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
    for name in _aws_settings():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def s3_folder(s3_bucket_url: str) -> str:
    """An empty folder of the bucket for one test."""
    return f"{s3_bucket_url}/{uuid.uuid4().hex[:12]}"
