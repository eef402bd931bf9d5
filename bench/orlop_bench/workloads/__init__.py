"""The measurements. Each yields its figures; contestants take turns within a round."""

from collections.abc import Callable, Iterator

from ..plan import Plan
from ..results import Figure
from . import budgets, chunks, lists, parallel, process_cost, push, reads, referrers, resume

WORKLOADS: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "start": process_cost.start,
    "manifest": reads.manifest,
    "blob": reads.blob,
    "push": push.push,
    "commit": push.commit,
    "chunks": chunks.chunks,
    "budgets": budgets.budgets,
    "referrers": referrers.referrers,
    "lists": lists.lists,
    "resume": resume.resume,
    "parallel": parallel.pushes,
    "mixed": parallel.mixed,
    "connections": process_cost.connections,
}
