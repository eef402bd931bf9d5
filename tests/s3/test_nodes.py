"""Several nodes on one bucket: uploads that move between them, races for sessions and tags, nodes that die."""

import concurrent.futures
import threading
import time

import orlop
import pytest
import rawhttp
from orlop import sha256, with_query

MIB = 1 << 20
SMALL, LARGE = 50_000, 9 * MIB + 7
CHUNK = 16 * MIB
PARTS_SENT = 'orlop_s3_requests_total{operation="UploadPart",outcome="ok"}'
SIZES = pytest.mark.parametrize("size_bytes", [SMALL, LARGE], ids=["small", "large"])


@pytest.fixture
def nodes(store):
    """Two nodes on one store, which is whole afterwards."""
    servers = [orlop.Server(store, program=orlop.release_binary()) for _ in range(2)]
    try:
        for server in servers:
            server.start()
        yield servers
        for server in servers:
            if server.process:
                server.stop()
        report = orlop.check(store, program=orlop.release_binary())
        assert report.status == 0 and report.errors == [], report
    finally:
        for server in servers:
            server.discard()


@pytest.fixture
def clients(nodes):
    with nodes[0].client() as first, nodes[1].client() as second:
        yield first, second


def patch(client, location, offset, data):
    return client.patch(location, data, {"Content-Range": f"{offset}-{offset + len(data) - 1}"})


def patched(client, location, offset, data):
    """A PATCH that succeeds; the next location."""
    answer = patch(client, location, offset, data)
    assert (answer.status, answer.get("Range")) == (202, f"0-{offset + len(data) - 1}"), answer
    return answer["Location"]


def committed(client, location, data, last=b""):
    answer = client.put(with_query(location, digest=sha256(data)), last)
    assert answer.status == 201, answer


def assert_blob(client, repo, data):
    answer = client.get(f"/v2/{repo}/blobs/{sha256(data)}")
    assert answer.status == 200 and answer.body == data, answer


# ---- uploads that move ----


@SIZES
def test_first_node_dies(nodes, clients, repo, size_bytes):
    """PATCH on one, PATCH on the other, SIGKILL of the first, commit on the second."""
    first, second = clients
    data = orlop.random_bytes(3 * size_bytes)
    location = patched(first, first.start_upload(repo), 0, data[:size_bytes])
    location = patched(second, location, size_bytes, data[size_bytes : 2 * size_bytes])
    nodes[0].kill()
    committed(second, location, data, data[2 * size_bytes :])
    assert_blob(second, repo, data)


@SIZES
@pytest.mark.parametrize("last_bytes", [0, 1000])
def test_there_and_back(clients, repo, size_bytes, last_bytes):
    """What a node keeps in memory of a session is old once another node took it on."""
    first, second = clients
    data = orlop.random_bytes(2 * size_bytes + last_bytes)
    location = patched(first, first.start_upload(repo), 0, data[:size_bytes])
    location = patched(second, location, size_bytes, data[size_bytes : 2 * size_bytes])
    committed(first, location, data, data[2 * size_bytes :])
    assert_blob(second, repo, data)
    assert_blob(first, repo, data)


@SIZES
def test_every_chunk_on_the_other_node(clients, repo, size_bytes):
    data = orlop.random_bytes(6 * size_bytes)
    location = clients[0].start_upload(repo)
    for number in range(6):
        at = number * size_bytes
        location = patched(clients[number % 2], location, at, data[at : at + size_bytes])
    committed(clients[0], location, data)
    assert_blob(clients[1], repo, data)


@SIZES
def test_old_digest_is_refused(clients, repo, size_bytes):
    """A commit on a node that is behind is of all that was sent, not of what that node remembers."""
    first, second = clients
    data = orlop.random_bytes(2 * size_bytes)
    location = patched(first, first.start_upload(repo), 0, data[:size_bytes])
    location = patched(second, location, size_bytes, data[size_bytes:])
    answer = first.put(with_query(location, digest=sha256(data[:size_bytes])))
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID"), answer


@SIZES
def test_status_from_any_node(clients, repo, size_bytes):
    data = orlop.random_bytes(2 * size_bytes)
    location = clients[0].start_upload(repo)
    for end in (size_bytes, 2 * size_bytes):
        location = patched(clients[end == 2 * size_bytes], location, end - size_bytes, data[end - size_bytes : end])
        for client in clients:
            answer = client.get(location)
            assert (answer.status, answer.get("Range")) == (204, f"0-{end - 1}"), answer


def test_cancelled_on_the_other_node(clients, repo):
    first, second = clients
    location = patched(first, first.start_upload(repo), 0, b"x" * SMALL)
    assert second.delete(location).status == 204
    for client in clients:
        assert client.get(location).status == 404
    answer = patch(first, location, SMALL, b"y" * SMALL)
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN"), answer


@SIZES
@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_restart(nodes, repo, size_bytes, is_killed):
    """Of the only node that knows a session, between two chunks."""
    server = nodes[0]
    data = orlop.random_bytes(2 * size_bytes)
    with server.client() as client:
        location = patched(client, client.start_upload(repo), 0, data[:size_bytes])
    server.kill() if is_killed else server.stop()
    server.start()
    with server.client() as client:
        answer = client.get(location)
        assert (answer.status, answer.get("Range")) == (204, f"0-{size_bytes - 1}"), answer
        location = patched(client, location, size_bytes, data[size_bytes:])
        committed(client, location, data)
        assert_blob(client, repo, data)


@pytest.mark.deadline(120)
def test_killed_within_a_chunk(nodes, repo):
    """The parts that a node sent after its last checkpoint are in nobody's way."""
    data = orlop.random_bytes(60 * MIB)
    with nodes[0].client() as client:
        location = patched(client, client.start_upload(repo), 0, data[:LARGE])
        before = nodes[0].metrics()[PARTS_SENT]
        with rawhttp.Connection(nodes[0].address) as connection:
            head = f"PATCH {location} HTTP/1.1\r\nHost: orlop\r\nContent-Length: {len(data) - LARGE}\r\n"
            connection.send(head.encode() + f"Content-Range: {LARGE}-{len(data) - 1}\r\n\r\n".encode())
            connection.send(data[LARGE : 40 * MIB])
            orlop.wait_until(lambda: nodes[0].metrics()[PARTS_SENT] >= before + 3, timeout=60)
            nodes[0].kill()
    with nodes[1].client() as other:
        answer = other.get(location)
        assert (answer.status, answer.get("Range")) == (204, f"0-{LARGE - 1}"), answer
        location = patched(other, location, LARGE, data[LARGE : 50 * MIB])
        committed(other, location, data, data[50 * MIB :])
        assert_blob(other, repo, data)


# ---- races ----


def at_once(*calls):
    """Every call in a thread of its own, begun together; their results."""
    start = threading.Barrier(len(calls))

    def run(call):
        start.wait()
        return call()

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.deadline(120)
@pytest.mark.parametrize("size_bytes, rounds", [(SMALL, 40), (LARGE, 6)], ids=["small", "large"])
def test_race_of_chunks(clients, repo, size_bytes, rounds):
    """Both send a chunk of their own at the same offset, again and again: exactly one wins each."""
    data, wins = b"", [0, 0]
    location = clients[0].start_upload(repo)
    for number in range(rounds):
        chunks = [bytes([number, node]) + orlop.random_bytes(size_bytes - 2) for node in range(2)]
        answers = at_once(*(
            lambda node=node: patch(clients[node], location, len(data), chunks[node]) for node in range(2)
        ))
        statuses = [answer.status for answer in answers]
        assert sorted(statuses) == [202, 416], f"round {number}: {answers}"
        winner = statuses.index(202)
        wins[winner] += 1
        data += chunks[winner]
        location = answers[winner]["Location"]
        for client in clients:
            answer = client.get(location)
            assert answer.get("Range") == f"0-{len(data) - 1}", f"round {number}: {answer}"
    committed(clients[0], location, data)
    assert_blob(clients[1], repo, data)


@pytest.mark.deadline(600 if orlop.full_run() else 240)
def test_race_that_goes_on(clients, repo):
    """Clients that race with large chunks and try again when they lost: someone always finishes, with the right bytes."""
    for number in range(30 if orlop.full_run() else 5):
        data = orlop.random_bytes(3 * CHUNK)
        location = clients[0].start_upload(repo)

        def send_all(client):
            """As a client that does not know of the other: ask where to go on, and go on, to the end."""
            wins = 0
            while (answer := client.get(location)).status == 204:
                have = int(answer.get("Range", "0--1").split("-", 1)[1]) + 1
                if have < 2:
                    have = 0  # "0-0" is also said of no bytes at all
                if have == len(data):
                    return wins
                answer = patch(client, location, have, data[have : have + CHUNK])
                assert answer.status in (202, 416), answer
                wins += answer.status == 202
            raise AssertionError(f"round {number}: {answer}")

        assert sum(at_once(*(lambda client=client: send_all(client) for client in clients))) == 3
        committed(clients[number % 2], location, data)
        assert_blob(clients[0], repo, data)


@SIZES
def test_race_of_commits(clients, repo, size_bytes):
    """The blob is whole whoever wins; the loser says so or finds it done."""
    for _ in range(4):
        data = orlop.random_bytes(size_bytes)
        location = patched(clients[0], clients[0].start_upload(repo), 0, data)
        answers = at_once(*(
            lambda client=client: client.put(with_query(location, digest=sha256(data))) for client in clients
        ))
        statuses = sorted(answer.status for answer in answers)
        assert statuses[0] == 201 and statuses[1] in (201, 404, 416), answers
        for client in clients:
            assert_blob(client, repo, data)


@SIZES
def test_race_of_chunk_and_commit(clients, repo, size_bytes):
    """The commit is of what came before the chunk or of both; never of anything else."""
    for _ in range(4):
        data = orlop.random_bytes(2 * size_bytes)
        location = patched(clients[0], clients[0].start_upload(repo), 0, data[:size_bytes])
        chunk, commit = at_once(
            lambda: patch(clients[0], location, size_bytes, data[size_bytes:]),
            lambda: clients[1].put(with_query(location, digest=sha256(data[:size_bytes]))),
        )
        assert chunk.status in (202, 404, 416), chunk
        assert commit.status in (201, 400, 416), commit
        if commit.status == 201:
            assert_blob(clients[0], repo, data[:size_bytes])
        else:
            assert chunk.status == 202, (chunk, commit)


@pytest.mark.deadline(120)
def test_same_blob_at_once(clients):
    """Pushed to both nodes at the same time, in parts: one copy stays, everyone may read it."""
    for size_bytes in (SMALL, LARGE):
        data = orlop.random_bytes(size_bytes)
        repos = [orlop.new_repo(), orlop.new_repo()]
        at_once(*(lambda node=node: clients[node].push_blob(repos[node], data) for node in range(2)))
        for client in clients:
            for repo in repos:
                assert_blob(client, repo, data)


def numbered_manifests(client, repo, count):
    image = client.push_image(repo)
    config, layer = orlop.descriptor(image.config, orlop.OCI_CONFIG), orlop.descriptor(image.layers[0], orlop.OCI_LAYER)
    return [orlop.manifest(config, [layer], annotations={"number": str(number)}) for number in range(count)]


def number_of(answer):
    assert answer.status == 200, answer
    assert sha256(answer.body) == answer["Docker-Content-Digest"]
    return int(answer.json()["annotations"]["number"])


def test_tag_never_goes_back(nodes, clients, repo):
    """Values one after the other, written through either node: readers at both see none older than any seen before."""
    manifests = numbered_manifests(clients[0], repo, 60)
    clients[0].push_manifest(repo, "t", manifests[0])
    lock, seen, is_done = threading.Lock(), [0], threading.Event()

    def write():
        for number, data in enumerate(manifests):
            clients[number % 2].push_manifest(repo, "t", data)
            with lock:
                seen[0] = max(seen[0], number)
        is_done.set()

    def read(server):
        reads = 0
        with server.client() as client:
            while not is_done.is_set():
                with lock:
                    oldest = seen[0]
                number = number_of(client.get(f"/v2/{repo}/manifests/t"))
                assert number >= oldest, f"{number} after {oldest} was read or acknowledged"
                with lock:
                    seen[0] = max(seen[0], number)
                reads += 1
        return reads

    def write_to_the_end():
        try:
            write()
        finally:
            is_done.set()

    calls = [lambda server=server: read(server) for server in (*nodes, *nodes)]
    assert min(at_once(write_to_the_end, *calls)[1:]) > 0


def test_race_of_tags(nodes, clients, repo):
    """Two writers: every read is one of the written values, and in the end both nodes say the same."""
    manifests = numbered_manifests(clients[0], repo, 40)
    clients[0].push_manifest(repo, "t", manifests[0])

    def write(node):
        for data in manifests[node::2]:
            clients[node].push_manifest(repo, "t", data)

    def read(server):
        with server.client() as client:
            until = time.monotonic() + 1
            while time.monotonic() < until:
                assert 0 <= number_of(client.get(f"/v2/{repo}/manifests/t")) < len(manifests)

    at_once(lambda: write(0), lambda: write(1), lambda: read(nodes[0]), lambda: read(nodes[1]))
    last = {number_of(client.get(f"/v2/{repo}/manifests/t")) for client in clients}
    assert len(last) == 1 and last <= {len(manifests) - 1, len(manifests) - 2}, last


def test_deleted_tag(clients, repo):
    """On one node: the other knows at once."""
    image = clients[0].push_image(repo, "t")
    assert clients[1].get(f"/v2/{repo}/manifests/t").body == image.manifest
    assert clients[0].delete(f"/v2/{repo}/manifests/t").status == 202
    for client in clients:
        assert client.get(f"/v2/{repo}/manifests/t").status == 404
        assert not client.tags(repo)
