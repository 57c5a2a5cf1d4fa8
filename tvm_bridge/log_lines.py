"""The lines of a log, plain or in gzip members of which a crash may have torn or damaged some."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

DAMAGED = b"(damaged)"
"""The line that takes the place of a damaged member."""


def lines(path: Path) -> list[bytes]:
    """The lines of a file, what can be read of them if its name ends in .gz."""
    content = path.read_bytes()
    return (inflated(content)[0] if path.suffix == ".gz" else content).split(b"\n")


def deflated(content: bytes) -> bytes:
    """A gzip member, the same at any time."""
    return gzip.compress(content, mtime=0)


def inflated(content: bytes) -> tuple[bytes, int]:
    """The text of all gzip members and where the last whole one ends; of a torn last one what can be read.

    A damaged member is passed over, and a line that is no record takes its place.
    """
    texts: list[bytes] = []
    start = end = 0
    while 0 <= start < len(content):
        text, length = _member(content, start)
        if length:
            texts.append(text)
            start = end = start + length
        else:
            after = content.find(b"\x1f\x8b\x08", start + 1)
            while after > 0 and not _member(content, after)[1]:
                after = content.find(b"\x1f\x8b\x08", after + 1)
            texts.append(text if after < 0 else text + DAMAGED + b"\n")
            start = after
    return b"".join(texts), end


def _member(content: bytes, start: int) -> tuple[bytes, int]:
    """What can be read of the gzip member that starts here, and its length, 0 if it is not whole."""
    member, texts, fed = zlib.decompressobj(wbits=31), [], start
    try:
        while not member.eof and fed < len(content):
            texts.append(member.decompress(content[fed : fed + 4096]))
            fed += 4096
    except zlib.error:
        return b"".join(texts), 0
    return b"".join(texts), min(fed, len(content)) - len(member.unused_data) - start if member.eof else 0
