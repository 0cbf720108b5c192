"""What a run wrote, read without the program that wrote it."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

_RESULT = re.compile(r"/results/tier=\w+/shard-\d+\.parquet$")


class Objects(Protocol):
    """The objects below one output, by name."""

    def stamps(self) -> dict[str, str]:
        """Each object with a text that changes when it is written again."""
        ...

    def read(self, name: str) -> bytes: ...


class Folder:
    """Objects of a local output."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def stamps(self) -> dict[str, str]:
        found = {}
        for path in self._root.rglob("*"):
            name = path.relative_to(self._root).as_posix()
            with contextlib.suppress(FileNotFoundError):  # a temporary file, gone again
                if path.is_file() and not path.name.startswith("."):
                    found[f"/{name}"] = str(path.stat().st_mtime_ns)
        return found

    def read(self, name: str) -> bytes:
        return (self._root / name.lstrip("/")).read_bytes()


class Bucket:
    """Objects of an output on S3, asked for by a client that no fault touches."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.client = client
        self._bucket, self._prefix = bucket, prefix
        self._known: dict[str, str] = {}

    def stamps(self) -> dict[str, str]:
        """While the server is away, what was known before."""
        from botocore.exceptions import BotoCoreError

        with contextlib.suppress(BotoCoreError):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            items = [item for page in pages for item in page.get("Contents", [])]
            self._known = {
                item["Key"].removeprefix(self._prefix): f"{item['ETag']} {item['LastModified']}" for item in items
            }
        return dict(self._known)

    def read(self, name: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self._bucket, Key=f"{self._prefix}{name}")["Body"].read()
        return data


def results_in(stamps: dict[str, str]) -> dict[str, str]:
    """Those of ``stamps`` that are results of a shard."""
    return {name: stamp for name, stamp in stamps.items() if _RESULT.search(name)}


def results_table(objects: Objects) -> pa.Table:
    """All results below an output."""
    names = sorted(results_in(objects.stamps()))
    return pa.concat_tables(pq.ParquetFile(io.BytesIO(objects.read(name))).read() for name in names)
