"""Tell what a file is from its first bytes, where it is not what the configuration says."""

from __future__ import annotations

from typing import Final

HEAD_BYTES: Final = 16

_ONCE: Final = "text is decompressed once, Parquet is compressed inside: decompress it first"
_OTHER: Final = "only gzip and zstd are read: decompress it first, or give Parquet, which is compressed inside"
_UTF8_ONLY: Final = "text is read as UTF-8: convert it first"

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_READ_THROUGH: Final = ((_GZIP, "gzip"), (_ZSTD, "zstd"))

_SIGNATURES: Final = (
    (b"PAR1\x15", "a Parquet file", "set input.format: parquet"),
    (_GZIP, "gzip-compressed", _ONCE),
    (_ZSTD, "zstd-compressed", _ONCE),
    (b"\xfd7zXZ\x00", "xz-compressed", _OTHER),
    (b"BZh91AY&SY", "bzip2-compressed", _OTHER),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "give Parquet, JSON lines or CSV"),
    (b"Obj\x01", "an Avro file", "give Parquet, JSON lines or CSV"),
    (b"\xff\xfe", "UTF-16 text", _UTF8_ONLY),
    (b"\xfe\xff", "UTF-16 text", _UTF8_ONLY),
)


def compression_of(head: bytes) -> str | None:
    """``gzip`` or ``zstd`` if a file that begins with ``head`` is compressed so, as text may be."""
    return next((name for signature, name in _READ_THROUGH if head.startswith(signature)), None)


def foreign_kind(head: bytes, file_format: str) -> str | None:
    """What a file that begins with ``head`` is instead of ``file_format``, and what to do; None if nothing is known."""
    for signature, kind, remedy in _SIGNATURES:
        if head.startswith(signature):
            return None if kind == "a Parquet file" and file_format == "parquet" else f"{kind}; {remedy}"
    return None
