"""Opening files as streams of bytes or lines, compressed or not, with a count of what was read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

COMPRESSED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda packed: gzip.GzipFile(fileobj=packed),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
SUFFIXES = (".gz", ".bz2", ".xz")


class _Counted(io.RawIOBase):
    """Bytes of a file, reported as they are read."""

    def __init__(self, file: io.FileIO, count: Callable[[int], None]) -> None:
        self._file, self._count = file, count

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        taken = self._file.readinto(buffer)
        self._count(taken)
        return taken

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def open_binary(path: Path, count: Callable[[int], None] | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading from start to end; gzip, bzip2 and xz are known by their first bytes.

    Args:
        path: the file.
        count: told the number of (compressed) bytes after each read.
    """
    with path.open("rb", buffering=0) as file:
        start = file.read(6)
        file.seek(0)
        source: io.RawIOBase = file if count is None else _Counted(file, count)
        with io.BufferedReader(source, 1 << 18) as packed:
            unpack = next((unpack for magic, unpack in COMPRESSED.items() if start.startswith(magic)), None)
            if unpack is None:
                yield packed
            else:
                with unpack(packed) as unpacked:
                    yield unpacked


def plain_name(path: Path) -> str:
    """File name in lower case without a compression suffix."""
    name = path.name.lower()
    return name.rsplit(".", 1)[0] if name.endswith(SUFFIXES) else name


class Lines:
    """Lines of a text with a place to put some back.

    Args:
        file: bytes of the text; what is no UTF-8 becomes a replacement character.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(cast(BinaryIO, file), encoding="utf-8", errors="replace")
        self._returned: deque[str] = deque()
        self.number = 0

    def take(self, count: int) -> list[str]:
        """The next lines, fewer at the end."""
        if not self._returned:
            lines = list(islice(self._text, count))
        else:
            lines = [self._returned.popleft() for _ in range(min(count, len(self._returned)))]
            lines += islice(self._text, count - len(lines))
        self.number += len(lines)
        return lines

    def put_back(self, lines: list[str]) -> None:
        """Have lines come again."""
        self._returned.extendleft(reversed(lines))
        self.number -= len(lines)
