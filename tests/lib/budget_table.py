"""
What operations cost, as the tests count it at the wire: one table, printed at the end of the run, with what the same
operation costs docker-registry beside it where that was measured too.
"""

import dataclasses

import s3proxy

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclasses.dataclass
class Measured:
    """One operation and what it took. size_bytes: of the client's own bytes, when there are any."""

    operation: str
    count: s3proxy.Count
    size_bytes: int = 0
    is_timed: bool = False  # with a latency, so that the round trips are to be believed

    def bytes_text(self, number):
        if not self.size_bytes:
            return bytes_text(number) if number else "0"
        return f"{number / self.size_bytes:.2f} ×" if number else "0"

    def cells(self):
        """Requests, round trips, written, read, copied."""
        count = self.count
        trips = count.round_trips if self.is_timed else ""
        return [len(count), trips, *map(self.bytes_text, (count.written, count.read, count.copied))]


def bytes_text(number):
    if number == 1:
        return "1 byte"
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number} bytes"


class Table:
    HEAD = ["operation", "requests", "at most", "trips", "at most", "written", "read"]
    HEAD_BESIDE = ["docker-registry: requests", "trips", "written", "read", "copied"]

    def __init__(self):
        self.rows = []
        self.beside = {}  # operation: Measured
        self.beside_missing = ""  # why nothing was

    def note(self, measured, requests, round_trips=None):
        """A row, then the assertions: at most so many requests and round trips, and nothing copied."""
        self.rows.append((measured, requests, round_trips))
        count = measured.count
        assert len(count) <= requests, f"{measured.operation}: at most {requests} requests, but {count.details()}"
        assert count.copied == 0, f"{measured.operation} copies: {count.details()}"
        if round_trips is not None:
            assert measured.is_timed
            assert count.round_trips <= round_trips, f"{count.round_trips} round trips: {count.details()}"

    def note_beside(self, measured):
        self.beside[measured.operation] = measured

    def unmatched(self):
        """Operations measured of docker-registry alone."""
        return sorted(self.beside.keys() - {measured.operation for measured, _, _ in self.rows})

    def __str__(self):
        """As Markdown, in columns."""
        lines = [self.HEAD + (self.HEAD_BESIDE if self.beside else [])]
        lines.append(["---"] + ["--:"] * (len(lines[0]) - 1))
        for measured, requests, round_trips in self.rows:
            got, trips, written, read, _ = measured.cells()
            line = [measured.operation, got, requests, trips, "" if round_trips is None else round_trips, written, read]
            if other := self.beside.get(measured.operation):
                line += other.cells()
            elif self.beside:
                line += [""] * len(self.HEAD_BESIDE)
            lines.append(line)
        widths = [max(len(str(cell)) for cell in column) for column in zip(*lines)]
        text = []
        for number, line in enumerate(lines):
            cells = [str(cell).ljust(width) if at == 0 else str(cell).rjust(width)
                     for at, (cell, width) in enumerate(zip(line, widths))]
            if number == 1:
                cells = [cell.replace(" ", "-") for cell in cells]
            text.append(f"| {' | '.join(cells)} |")
        if self.beside_missing:
            text.append(f"| docker-registry: not measured, {self.beside_missing} |")
        return "\n".join(text)


TABLE = Table()
