"""Bytes to push: one file in the page cache, and a fresh ending for each push so that no two blobs are equal."""

import hashlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ENDING_BYTES = 4096
RANDOM_BYTES = 64 << 20  # the file repeats this many random bytes


@dataclass
class Body:
    source: "Source"
    size: int
    ending: bytes
    digest: str

    def pieces(self, size_max: int) -> Iterator[memoryview]:
        """The bytes in pieces of size_max; shorter ones where they do not lie together."""
        at = 0
        while piece := self.part(at, size_max):
            yield piece
            at += len(piece)

    def part(self, at: int, size_max: int) -> memoryview:
        """The bytes from there on, as many as lie together; empty at the end."""
        beginning = self.size - ENDING_BYTES
        if at >= beginning:
            return memoryview(self.ending)[at - beginning :][:size_max]
        place = at % len(self.source.view)
        return self.source.view[place : place + min(size_max, beginning - at)]

    def chunks(self, size: int) -> Iterator[bytes]:
        """The bytes in chunks of exactly that size, but for the last."""
        gathered = b""
        for piece in self.pieces(size):
            gathered += piece
            while len(gathered) >= size:
                yield gathered[:size]
                gathered = gathered[size:]
        if gathered:
            yield gathered


@dataclass
class Comparison:
    """Takes bytes as they come, and compares them with a body's: far sooner done than hashing them."""

    body: Body
    taken: int = 0
    is_equal: bool = True

    def take(self, piece: memoryview) -> None:
        while self.is_equal and piece:
            expected = self.body.part(self.taken, len(piece))
            self.is_equal = len(expected) > 0 and bytes(piece[: len(expected)]) == bytes(expected)
            self.taken += len(expected)
            piece = piece[len(expected) :]


@dataclass
class Source:
    """A file of size - ENDING_BYTES bytes, mapped; gives bodies of any size, repeating the file for larger ones."""

    path: Path
    size: int
    view: memoryview = field(init=False)
    _hashes: dict = field(default_factory=dict)  # size of a body → hash of all but its ending

    def __post_init__(self) -> None:
        block = os.urandom(min(RANDOM_BYTES, self.size))
        left = self.size - ENDING_BYTES
        with open(self.path, "wb") as file:
            while left:
                left -= file.write(block[:left])
            file.flush()
            os.fsync(file.fileno())
        with open(self.path, "rb") as file:
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            self.view = memoryview(mmap.mmap(file.fileno(), 0, flags, mmap.PROT_READ))

    def body(self, size: int) -> Body:
        if size not in self._hashes:
            running = hashlib.sha256()
            body = Body(self, size, b"", "")
            for piece in body.pieces(1 << 20):
                running.update(piece)
            self._hashes[size] = running
        ending = os.urandom(ENDING_BYTES)
        running = self._hashes[size].copy()
        running.update(ending)
        return Body(self, size, ending, "sha256:" + running.hexdigest())
