"""What happens to the bytes of a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_FOREIGN: Final = (
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\n", b"\r", b'"', b",", b"{", b"}", b"[", b"\\", b"\\ud800",
    b"1e999", b"9" * 5_000, b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", "\u2028".encode(), b"PAR1", b"\x1f\x8b\x08",
    b"NaN", b"\x28\xb5\x2f\xfd", b"null", b"x" * 300,
)  # fmt: skip
_NUMBERS: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x40000000)


def damaged(content: bytes, damages: Iterable[tuple[str, int, int]]) -> bytes:
    """``content`` after all ``damages``: places are ten-thousandths of the length, or bytes before the end."""
    data = bytearray(content)
    for what, place, value in damages:
        _damage(data, what, place, value)
    return bytes(data)


def _damage(data: bytearray, what: str, place: int, value: int) -> None:
    at = max(0, len(data) - 1 - place) if what.endswith("near the end") else len(data) * place // 10_000
    foreign = _FOREIGN[value % len(_FOREIGN)]
    number = _NUMBERS[value % len(_NUMBERS)].to_bytes(4, "little")
    match what.removesuffix(" near the end"):
        case "cut":
            del data[at:]
        case "flip":
            data[at : at + 1] = bytes(byte ^ (value or 1) for byte in data[at : at + 1])
        case "insert":
            data[at:at] = foreign
        case "remove":
            del data[at : at + value]
        case "zero" | "ones":
            length = len(data[at : at + value])
            data[at : at + length] = (b"\x00" if what == "zero" else b"\xff") * length
        case "repeat":
            data[at:at] = data[at : at + value]
        case "number":
            data[at : at + 4] = number[: len(data[at : at + 4])]
        case "before":
            data[:0] = foreign
        case "behind":
            data += foreign
        case _:
            raise ValueError(what)
