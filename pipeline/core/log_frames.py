"""The journal's form: records one after the other, each with its length, kind and checksum.

A record is 4 bytes length of the payload, 1 byte kind, 4 bytes CRC-32 of kind and payload (all little-endian), then
the payload. What a killed writer left half-written at the end does not pass, and nothing after it is read.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

HEADER = struct.Struct("<IBI")
LINES, BATCH, BEGIN = 1, 2, 3
"""JSON objects, one a line; an Arrow IPC stream of one batch; what stands first in a segment. 0 is no kind: a disk
that lost power leaves zeros."""
COMMITTED = 0x80
"""Added to the kind of what was on the disk before its answer was sent."""
KINDS = frozenset({LINES, BATCH, BEGIN})


class Frame(NamedTuple):
    """One whole record."""

    kind: int
    committed: bool
    payload: memoryview


def header(kind: int, payload: bytes, *, committed: bool = False) -> bytes:
    """What stands before this payload.

    >>> header(LINES, b"{}").hex()
    '0200000001028ebdba'
    """
    flagged = kind | COMMITTED if committed else kind
    return HEADER.pack(len(payload), flagged, zlib.crc32(payload, flagged))


def read_frames(content: bytes | memoryview) -> tuple[list[Frame], int]:
    """The whole records from the beginning on, and how many bytes they take; what follows is torn.

    >>> whole = header(LINES, b"{}") + b"{}"
    >>> frames, length = read_frames(whole + whole[:-1])
    >>> [bytes(frame.payload) for frame in frames], length, len(whole)
    ([b'{}'], 11, 11)
    """
    view, at, frames = memoryview(content), 0, []
    while at + HEADER.size <= len(view):
        length, flagged, checksum = HEADER.unpack_from(view, at)
        end = at + HEADER.size + length
        kind = flagged & ~COMMITTED
        if kind not in KINDS or end > len(view):
            break
        payload = view[at + HEADER.size : end]
        if zlib.crc32(payload, flagged) != checksum:
            break
        frames.append(Frame(kind, flagged != kind, payload))
        at = end
    return frames, at
