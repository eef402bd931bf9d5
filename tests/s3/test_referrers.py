"""
Referrers in a bucket: what a list costs in requests, that pages hold still, and that the list is true while other nodes
push and delete.
"""

import concurrent.futures
import contextlib
import random
import threading
import time

import orlop
import pytest
from orlop import OCI_MANIFEST, artifact, descriptor, next_link, sha256

# How many there are, and how many requests a list of them may cost when descriptors are in memory or in a snapshot.
BUDGETS = {1: 2, 10: 2, 100: 3, 1000: 4, **({10_000: 20} if orlop.full_run() else {})}
SNAPSHOT_MIN = 100  # fewer are not worth one
COLD_EXTRA, COLD_AT_ONCE = 20, 16
PUSHERS = 8

RACE_OPERATIONS = 10_000 if orlop.full_run() else 1200
RACE_REFERRERS = 1500 if orlop.full_run() else 300  # there at most
WRITERS, DELETERS, LISTERS = 8, 4, 4

table = []


def note(what, count, allowed):
    table.append((what, len(count), allowed, count.peak))
    assert len(count) <= allowed, f"{what}: at most {allowed} requests, but {count.details()}"
    assert count.peak <= COLD_AT_ONCE, f"{what}: {count.peak} at once"


@pytest.fixture(scope="module", autouse=True)
def printed_table():
    yield
    lines = [f"{'list of referrers':<52} {'requests':>8} {'budget':>7} {'at once':>8}"]
    lines += [f"{what:<52} {got:>8} {most:>7} {peak:>8}" for what, got, most, peak in table]
    print("\n" + "\n".join(lines))


@pytest.fixture
def new_node(store, new_proxy):
    """A function that starts a node on the test's store, behind a proxy when asked: (client, proxy)."""
    with contextlib.ExitStack() as stack:

        def start(*args, behind_proxy=True):
            proxy = new_proxy() if behind_proxy else None
            arguments = [*(("--s3-endpoint", proxy.url) if proxy else ()), *args]
            server = orlop.Server(store, arguments, program=orlop.release_binary())
            client = stack.enter_context(stack.enter_context(server).client())
            client.push_image(orlop.new_repo(), "warm")
            client.server = server
            return client, proxy

        yield start


def assert_whole(store):
    report = orlop.check(store, program=orlop.release_binary())
    assert report.status == 0 and report.errors == [], report


class Subject:
    """A subject that need not be there, and its referrers, each known by a number."""

    def __init__(self, repo):
        self.repo = repo
        self.descriptor = descriptor(repo.encode(), OCI_MANIFEST)
        self.path = f"/v2/{repo}/referrers/{self.descriptor['digest']}"
        self.present = set()

    def manifest(self, number):
        annotations = {"org.opencontainers.image.created": "2026-01-31T12:00:00Z", "number": str(number)}
        return artifact(f"application/vnd.example.{number % 3}", self.descriptor, annotations)

    def digest(self, number):
        return sha256(self.manifest(number))

    def push(self, client, number):
        data = self.manifest(number)
        client.push_manifest(self.repo, sha256(data), data)

    def delete(self, client, number):
        answer = client.delete(f"/v2/{self.repo}/manifests/{self.digest(number)}")
        assert answer.status == 202, answer

    def _each(self, client, change, numbers):
        def run(own_numbers):
            with client.server.client() as own:
                for number in own_numbers:
                    change(own, number)

        numbers = list(numbers)
        with concurrent.futures.ThreadPoolExecutor(PUSHERS) as pool:
            list(pool.map(run, (numbers[at::PUSHERS] for at in range(PUSHERS))))

    def push_all(self, client, numbers):
        client.push_blob(self.repo, orlop.EMPTY_JSON)
        self._each(client, self.push, numbers)
        self.present |= set(numbers)

    def delete_all(self, client, numbers):
        self._each(client, self.delete, numbers)
        self.present -= set(numbers)

    def list(self, client, query=""):
        """Every page; the numbers, in order, after a look at each descriptor."""
        target, numbers, last = self.path + query, [], ""
        while target:
            answer = client.get(target)
            assert answer.status == 200, answer
            assert len(answer.body) < 4 << 20
            for item in answer.json()["manifests"]:
                number = int(item["annotations"]["number"])
                data = self.manifest(number)
                kind = f"application/vnd.example.{number % 3}"
                assert item == {
                    **descriptor(data, OCI_MANIFEST, artifactType=kind),
                    "annotations": {"org.opencontainers.image.created": "2026-01-31T12:00:00Z", "number": str(number)},
                }
                assert item["digest"] > last
                last = item["digest"]
                numbers.append(number)
            target = next_link(answer)
        return numbers

    def assert_listed(self, client):
        numbers = self.list(client)
        assert set(numbers) == self.present and len(numbers) == len(self.present)


@pytest.mark.deadline(3600 if orlop.full_run() else 300)
@pytest.mark.parametrize("number", BUDGETS)
def test_budget(new_node, store, repo, number):
    pusher, _ = new_node(behind_proxy=False)
    subject, warm = Subject(repo), BUDGETS[number]
    subject.push_all(pusher, range(number))

    client, proxy = new_node()
    with proxy.measure() as count:
        subject.assert_listed(client)
    note(f"{number}, cold, without a snapshot", count, number + COLD_EXTRA)
    with proxy.measure() as count:
        subject.assert_listed(client)
    note(f"{number}, warm", count, warm)
    other, other_proxy = new_node()
    with other_proxy.measure() as count:
        subject.assert_listed(other)
    note(f"{number}, after a restart", count, warm if number >= SNAPSHOT_MIN else number + COLD_EXTRA)

    # A tenth is pushed, another deleted, then both at once, always by another node.
    tenth = max(1, number // 10)
    changes = [
        (range(number, number + tenth), ()),
        ((), range(tenth)),
        (range(number + tenth, number + 2 * tenth), range(number, number + tenth)),
    ]
    for pushed, deleted in changes:
        subject.push_all(pusher, pushed)
        subject.delete_all(pusher, deleted)
        with proxy.measure() as count:
            subject.assert_listed(client)
        note(f"{number}, warm, {len(pushed)} pushed, {len(deleted)} deleted", count, warm + len(pushed) + len(deleted))
        with proxy.measure() as count:
            subject.assert_listed(client)
        note(f"{number}, warm again", count, warm)
    if number <= 1000:
        assert_whole(store)


def test_filter_costs_no_more(new_node, repo):
    pusher, _ = new_node(behind_proxy=False)
    subject = Subject(repo)
    subject.push_all(pusher, range(100))
    client, proxy = new_node()
    subject.assert_listed(client)
    for types, expected in (((0,), range(0, 100, 3)), ((0, 1), [n for n in range(100) if n % 3 != 2]), ((7,), ())):
        query = "?" + "&".join(f"artifactType=application/vnd.example.{kind}" for kind in types)
        with proxy.measure() as count:
            answer = client.get(subject.path + query)
        assert answer["OCI-Filters-Applied"] == "artifactType"
        found = {int(item["annotations"]["number"]) for item in answer.json()["manifests"]}
        assert found == set(expected)
        note(f"100, warm, of {len(types)} type(s)", count, BUDGETS[100])


def test_small_pages_cost_little(new_node, repo):
    """Of a long list no more is read than the page needs."""
    pusher, _ = new_node(behind_proxy=False)
    subject = Subject(repo)
    subject.push_all(pusher, range(300))
    client, proxy = new_node()
    with proxy.measure() as count:
        answer = client.get(subject.path + "?n=5")
    assert len(answer.json()["manifests"]) == 5 and next_link(answer)
    note("5 of 300, cold", count, 2 + 6)


@pytest.mark.deadline(120)
def test_pages_under_change(new_node, repo):
    """What is there all the time is on exactly one page, whatever comes and goes beside it."""
    pusher, _ = new_node(behind_proxy=False)
    client, _ = new_node(behind_proxy=False)
    subject, is_done = Subject(repo), threading.Event()
    lasting, passing = range(150), range(150, 300)
    subject.push_all(pusher, lasting)

    def change(seed):
        rng, here = random.Random(seed), set()
        with pusher.server.client() as own:
            while not is_done.is_set():
                number = rng.choice(passing[seed::2])
                (subject.delete if number in here else subject.push)(own, number)
                here ^= {number}

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        changers = [pool.submit(change, seed) for seed in range(2)]
        try:
            for size in (1, 7, 40, 1, 7, 40):
                numbers = subject.list(client, f"?n={size}")
                assert len(set(numbers)) == len(numbers)
                assert set(lasting) <= set(numbers) <= set(lasting) | set(passing)
        finally:
            is_done.set()
        for changer in changers:
            changer.result()


class Truth:
    """Of each number: is it listed, and how often did that change. Both become known as the change is acknowledged."""

    def __init__(self, numbers):
        self.lock = threading.Lock()
        self.present = dict.fromkeys(numbers, False)
        self.version = dict.fromkeys(numbers, 0)
        self.busy = set()
        self.left = RACE_OPERATIONS

    def begin(self, is_push):
        """A number to push (or delete) that nobody else changes meanwhile; None: there is none, or no operation left."""
        with self.lock:
            numbers = [n for n, present in self.present.items() if present != is_push and n not in self.busy]
            if not numbers or self.left == 0:
                return None
            self.left -= 1
            number = random.choice(numbers)
            self.busy.add(number)
            self.version[number] += 1
            return number

    def end(self, number):
        with self.lock:
            self.present[number] = not self.present[number]
            self.busy.discard(number)

    def snapshot(self):
        with self.lock:
            return {n: (present, self.version[n]) for n, present in self.present.items() if n not in self.busy}

    def unchanged(self, before):
        """(those listed, those not listed) all the time since then"""
        with self.lock:
            same = {n: present for n, (present, version) in before.items() if self.version[n] == version}
        return {n for n, present in same.items() if present}, {n for n, present in same.items() if not present}



@pytest.mark.deadline(3600 if orlop.full_run() else 180)
def test_race(new_node, store, repo):
    """On two nodes, of which one remembers nothing and so lives on snapshots."""
    nodes = [new_node(behind_proxy=False)[0], new_node("--registry-cache-bytes-max", "0", behind_proxy=False)[0]]
    subject, truth = Subject(repo), Truth(range(RACE_REFERRERS))
    nodes[0].push_blob(repo, orlop.EMPTY_JSON)
    done = {"pushed": 0, "deleted": 0, "listed": 0}

    def change(own, is_push):
        number = truth.begin(is_push)
        if number is None:
            time.sleep(0.005)
            return
        (subject.push if is_push else subject.delete)(own, number)
        truth.end(number)
        with truth.lock:
            done["pushed" if is_push else "deleted"] += 1

    def look(own):
        before = truth.snapshot()
        listed = subject.list(own)
        there, gone = truth.unchanged(before)
        assert len(set(listed)) == len(listed)
        assert not there - set(listed), f"acknowledged, but not listed: {sorted(there - set(listed))}"
        assert not gone & set(listed), f"deleted, but listed: {sorted(gone & set(listed))}"
        with truth.lock:
            done["listed"] += 1
            truth.left = max(0, truth.left - 1)

    def run(index, action):
        with nodes[index % 2].server.client() as own:
            while truth.left:
                action(own)

    actions = [lambda own: change(own, True)] * WRITERS + [lambda own: change(own, False)] * DELETERS + [look] * LISTERS
    with concurrent.futures.ThreadPoolExecutor(len(actions)) as pool:
        for future in [pool.submit(run, *each) for each in enumerate(actions)]:
            future.result()
    print(f"\nrace of {RACE_OPERATIONS} operations: {done}, {sum(truth.present.values())} in the end")
    assert all(done.values())
    subject.present = {n for n, present in truth.present.items() if present}
    nodes.append(new_node(behind_proxy=False)[0])
    for node in nodes:
        subject.assert_listed(node)
    assert_whole(store)
