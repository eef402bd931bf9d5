"""What /metrics, /readyz and the log say of the object store, held against what was seen at the wire."""

import collections
import re

import orlop
import pytest
import s3proxy
from orlop import sha256, with_query

MIB = 1 << 20
SAMPLE = re.compile(r'orlop_s3_requests_total\{operation="(\w+)",outcome="(\w+)"\}')
WIRE_NAMES = {"ListObjects": "ListObjectsV2"}


@pytest.fixture
def node(store, new_proxy):
    """A function that starts a node behind a proxy: (server, proxy)."""
    started = []

    def start(*args, conditions=s3proxy.HONOURED, **settings):
        proxy = new_proxy(**settings)
        proxy.conditions = conditions
        server = orlop.Server(store, ["--s3-endpoint", proxy.url, *args], program=orlop.release_binary())
        started.append(server)
        return server.start(), proxy

    yield start
    for server in started:
        if server.process:
            server.stop()
        server.discard()


def changes(before, after):
    return {name: after[name] - before[name] for name in after if after[name] != before.get(name)}


def by_outcome(delta):
    """{(operation, outcome): requests}"""
    return {found.groups(): number for name, number in delta.items() if (found := SAMPLE.match(name))}


def at_the_wire(count):
    outcomes = collections.Counter()
    for request in count.requests:
        outcome = "ok" if request.status < 300 else "refused"
        outcomes[WIRE_NAMES.get(request.operation, request.operation), outcome] += 1
    return outcomes


def test_requests_and_bytes(node, repo):
    """A push, pulls, lists, a delete: the counters are the proxy's own counts."""
    server, proxy = node()
    with server.client() as client:
        with proxy.measure() as count:
            before = server.metrics()
            image = client.push_image(repo, "t", layers=2)
            data = orlop.random_bytes(20 * MIB)
            answer = client.patch(client.start_upload(repo), data)
            assert client.put(with_query(answer["Location"], digest=sha256(data))).status == 201
            assert client.get(f"/v2/{repo}/blobs/{sha256(data)}").body == data
            client.pull_image(repo, "t")
            assert client.tags(repo) == ["t"]
            assert client.get(f"/v2/{repo}/manifests/absent").status == 404
            assert client.delete(f"/v2/{repo}/manifests/{image.digest}").status == 202
        delta = changes(before, server.metrics())
    assert by_outcome(delta) == at_the_wire(count), count.details()
    assert {"ok", "refused"} == {outcome for _, outcome in by_outcome(delta)}
    assert delta['orlop_s3_body_bytes_total{direction="sent"}'] == sum(r.bytes_up for r in count.requests)
    assert delta['orlop_s3_body_bytes_total{direction="received"}'] == sum(r.bytes_down for r in count.requests)
    assert delta["orlop_s3_request_duration_seconds_count"] == len(count)
    assert delta['orlop_s3_request_duration_seconds_bucket{le="+Inf"}'] == len(count)
    assert "orlop_s3_retries_total" not in delta


def test_latency(node):
    """A slow store is seen in the histogram."""
    server, proxy = node()
    with server.client() as client:
        client.push_image("slow/r")
        proxy.latency_s = 0.3
        with proxy.measure() as count:
            before = server.metrics()
            client.start_upload("slow/r")
        proxy.latency_s = 0.0
        delta = changes(before, server.metrics())
    assert len(count) == 1
    assert delta["orlop_s3_request_duration_seconds_sum"] >= 0.3
    assert 'orlop_s3_request_duration_seconds_bucket{le="0.25"}' not in delta
    assert delta['orlop_s3_request_duration_seconds_bucket{le="+Inf"}'] == 1


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (s3proxy.SLOW_DOWN, "throttled"),
        (s3proxy.INTERNAL, "failed"),
        (s3proxy.RESET_BEFORE, "failed"),
        (s3proxy.LOST_ANSWER, "failed"),
    ],
)
def test_retries(node, repo, fault, outcome):
    """Two tries that fail and one that does not."""
    server, proxy = node()
    with server.client() as client:
        client.push_image(repo, "t")
        proxy.settle()
        before = server.metrics()
        faults = [fault, fault]
        proxy.fault_of = lambda operation, key: faults.pop() if faults and operation == "GetObject" else None
        assert client.get(f"/v2/{repo}/manifests/t").status == 200
        delta = changes(before, server.metrics())
    assert by_outcome(delta) == {("GetObject", "ok"): 1, ("GetObject", outcome): 2}
    assert delta["orlop_s3_retries_total"] == 2


def test_part_memory(node, repo):
    """In use while an upload holds a tail, and given back with it."""
    server, _ = node("--s3-part-memory-bytes-max", "64MiB")
    with server.client() as client:
        client.push_image(repo, "t")
        metrics = server.metrics()
        assert metrics["orlop_s3_part_memory_max_bytes"] == 64 * MIB
        assert metrics["orlop_s3_part_memory_bytes"] == 0
        data = orlop.random_bytes(3 * MIB)
        answer = client.patch(client.start_upload(repo), data)
        assert 3 * MIB <= server.metrics()["orlop_s3_part_memory_bytes"] < 4 * MIB
        assert client.put(with_query(answer["Location"], digest=sha256(data))).status == 201
        orlop.wait_until(lambda: server.metrics()["orlop_s3_part_memory_bytes"] == 0)


# ---- conditional writes: does the store have them? ----

MANY = "the object store has conditional writes: several nodes may write to it"
ONE = "the object store has no conditional writes: only this node may write to it"
PROMISED = "s3.single_writer is set: only this node may write to the object store"


@pytest.mark.parametrize(
    ("conditions", "args", "message", "level"),
    [
        (s3proxy.HONOURED, (), MANY, "info"),
        (s3proxy.IGNORED, (), ONE, "warn"),
        (s3proxy.REFUSED_AS_UNKNOWN, (), ONE, "warn"),
        (s3proxy.HONOURED, ("--s3-single-writer", "true"), PROMISED, "info"),
    ],
    ids=["honoured", "ignored", "refused", "promised"],
)
def test_conditional_writes(node, repo, conditions, args, message, level):
    """Told in the log, by /readyz and by a metric; and where there are none, one node does everything without."""
    server, proxy = node(*args, conditions=conditions)
    is_single = message != MANY
    orlop.wait_until(lambda: server.log_lines("serving"))
    lines = [line for line in server.log_lines() if line["message"] in (MANY, ONE, PROMISED)]
    assert [(line["message"], line["level"]) for line in lines] == [(message, level)]
    assert lines[0]["store"].startswith("s3://")
    answer = server.admin("/readyz")
    assert (answer.status, answer.json()) == (200, {"ready": True, "reason": "", "single_writer": is_single})
    assert server.metrics()["orlop_store_single_writer"] == is_single

    with server.client() as client, proxy.measure() as count:
        push_everything(client, repo)
    conditional = [request for request in count.requests if request.is_conditional]
    assert bool(conditional) != is_single, count.details()
    server.assert_check_clean()


def push_everything(client, repo):
    """Small and large blobs, chunks, tags that move, a referrer, conditions, deletes."""
    data = orlop.random_bytes(9 * MIB)
    answer = client.patch(client.start_upload(repo), data[: 2 * MIB])
    span = {"Content-Range": f"{2 * MIB}-{len(data) - 1}"}
    answer = client.patch(answer["Location"], data[2 * MIB :], span)
    assert client.put(with_query(answer["Location"], digest=sha256(data))).status == 201
    assert client.get(f"/v2/{repo}/blobs/{sha256(data)}").body == data

    first, second = client.push_image(repo, "t"), client.push_image(repo, "other")
    headers = {"Content-Type": orlop.OCI_MANIFEST, "If-None-Match": "*"}
    assert client.put(f"/v2/{repo}/manifests/t", second.manifest, headers).status == 412
    client.push_manifest(repo, second.digest, second.manifest, query="?tag=t&tag=a&tag=b")
    assert client.get(f"/v2/{repo}/manifests/t").body == second.manifest
    name, _ = client.push_artifact(repo, "application/x", subject=first.descriptor(), tag="signed")
    assert [item["digest"] for item in client.referrers(repo, first.digest)] == [name]
    assert client.delete(f"/v2/{repo}/manifests/{second.digest}").status == 202
    assert client.tags(repo) == ["signed"]


def test_local_store_is_single(new_server, work_dir):
    server = new_server(work_dir / "store", program=orlop.release_binary())
    orlop.wait_until(lambda: server.log_lines("serving"))
    assert server.admin("/readyz").json() == {"ready": True, "reason": "", "single_writer": True}
    metrics = server.metrics()
    assert metrics["orlop_store_single_writer"] == 1
    assert metrics["orlop_s3_part_memory_max_bytes"] == 0
