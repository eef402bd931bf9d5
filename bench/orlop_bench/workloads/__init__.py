"""
The measurements. Each yields its figures; contestants take turns within a round. What promises hang on comes first:
a quick run that is out of time leaves out the last.
"""

from collections.abc import Callable, Iterator

from ..plan import Plan
from ..results import Figure
from . import budgets, chunks, lists, mixed, parallel, process_cost, push, reads, referrers, resume

WORKLOADS: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "start": process_cost.start,
    "connections": process_cost.connections,
    "manifest": reads.manifest,
    "blob": reads.blob,
    "push": push.push,
    "commit": push.commit,
    "budgets": budgets.budgets,
    "referrers": referrers.referrers,
    "chunks": chunks.chunks,
    "lists": lists.lists,
    "resume": resume.resume,
    "parallel": parallel.pushes,
    "mixed": mixed.mixed,
}
