"""The measurements. Each yields its figures; contestants take turns within a round."""

from collections.abc import Callable, Iterator

from ..plan import Plan
from ..results import Figure
from . import chunks, process_cost, push, reads

WORKLOADS: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "start": process_cost.start,
    "manifest": reads.manifest,
    "blob": reads.blob,
    "push": push.push,
    "commit": push.commit,
    "chunks": chunks.chunks,
    "connections": process_cost.connections,
}
