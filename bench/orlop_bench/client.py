"""A small HTTP/1.1 client that adds as little as it can to what is measured, and checks every answer."""

import hashlib
import json
import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .content import Body, Comparison

TIMEOUT_S = 600  # a peer copies 10 GiB before it answers a commit
RECEIVE_BYTES = 1 << 20
CHUNK_BYTES = 32 << 10  # docker and containerd send a layer in chunks of this size
CHUNKS_PER_SEND = 16

EMPTY_JSON = b"{}"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


class WrongAnswer(Exception):
    """A server said something else than it should: the figure being measured is void."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes = b""
    length: int = 0  # bytes of body, also when they went to a sink
    wire_bytes: int = 0  # head and body

    def expect(self, what: str, *statuses: int) -> "Answer":
        if self.status not in statuses:
            raise WrongAnswer(f"{what}: {self.status} {self.body[:200]!r}")
        return self


@dataclass
class PushTimes:
    post_s: float = 0.0
    patch_s: float = 0.0
    put_s: float = 0.0

    @property
    def whole_s(self) -> float:
        return self.post_s + self.patch_s + self.put_s


@dataclass
class Connection:
    """One keep-alive connection."""

    port: int
    source: str = "127.0.0.1"
    _socket: socket.socket = field(init=False)
    _pending: bytes = b""

    def __post_init__(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S, (self.source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def request(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        fields = dict(headers or {})
        if body or method in ("POST", "PUT", "PATCH"):
            fields["Content-Length"] = str(len(body))
        self._socket.sendall(self._head(method, target, fields) + body)
        return self._answer(method)

    def request_sized(self, method: str, target: str, headers: dict[str, str], body: Body) -> Answer:
        """The body with its Content-Length."""
        fields = headers | {"Content-Length": str(body.size)}
        return self._streamed(method, target, fields, ([piece] for piece in body.pieces(CHUNK_BYTES * CHUNKS_PER_SEND)))

    def request_chunked(self, method: str, target: str, headers: dict[str, str], body: Body) -> Answer:
        """The body in chunks, its length not told before."""
        return self._streamed(method, target, headers | {"Transfer-Encoding": "chunked"}, _chunks(body))

    def begin_patch(self, target: str, at: int, sent: bytes, size: int) -> None:
        """The head of a PATCH of size bytes at an offset, and its first bytes: no more, and no answer."""
        fields = {"Content-Length": str(size), "Content-Range": f"{at}-{at + size - 1}"}
        self._socket.sendall(self._head("PATCH", target, fields | {"Content-Type": "application/octet-stream"}) + sent)

    def get_to(self, target: str, sink: Callable[[memoryview], object]) -> Answer:
        self._socket.sendall(self._head("GET", target, {}))
        return self._answer("GET", sink)

    def _head(self, method: str, target: str, headers: dict[str, str]) -> bytes:
        lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "User-Agent: orlop-bench"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def _streamed(self, method: str, target: str, headers: dict[str, str], sends: Iterable[list]) -> Answer:
        self._socket.sendall(self._head(method, target, headers))
        try:
            for buffers in sends:
                self._send_all(buffers)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused early: the answer says why
        return self._answer(method)

    def _send_all(self, buffers: list) -> None:
        total = sum(len(buffer) for buffer in buffers)
        sent = self._socket.sendmsg(buffers)
        if sent != total:
            self._socket.sendall(b"".join(buffers)[sent:])

    def _answer(self, method: str, sink: Callable[[memoryview], object] | None = None) -> Answer:
        head = self._head_bytes()
        lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        answer = Answer(int(lines[0].split()[1]), headers, wire_bytes=len(head))
        if method == "HEAD" or answer.status in (204, 304):
            return answer
        collected: list[bytes] = []
        take = sink or (lambda piece: collected.append(bytes(piece)))
        if headers.get("transfer-encoding", "").lower() == "chunked":
            answer.length = self._take_chunked(take)
        else:
            answer.length = int(headers.get("content-length", "0"))
            self._take(answer.length, take)
        answer.body = b"".join(collected)
        answer.wire_bytes += answer.length
        return answer

    def _head_bytes(self) -> bytes:
        return self._until(b"\r\n\r\n")

    def _until(self, end: bytes) -> bytes:
        while end not in self._pending:
            received = self._socket.recv(RECEIVE_BYTES)
            if not received:
                raise WrongAnswer(f"connection closed within an answer, after {self._pending[:100]!r}")
            self._pending += received
        head, _, self._pending = self._pending.partition(end)
        return head + end

    def _take(self, length: int, sink: Callable[[memoryview], object]) -> None:
        first = self._pending[:length]
        self._pending = self._pending[length:]
        sink(memoryview(first))
        left = length - len(first)
        buffer = memoryview(bytearray(min(left, RECEIVE_BYTES)))
        while left:
            received = self._socket.recv_into(buffer, min(left, RECEIVE_BYTES))
            if not received:
                raise WrongAnswer(f"connection closed {left} bytes before the end of a body of {length}")
            sink(buffer[:received])
            left -= received

    def _take_chunked(self, sink: Callable[[memoryview], object]) -> int:
        total = 0
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            self._take(size, sink)
            self._until(b"\r\n")
            total += size
        self._until(b"\r\n")
        return total


@dataclass(frozen=True)
class Image:
    """A small image as a registry holds it."""

    repository: str
    tag: str
    manifest: bytes

    @property
    def digest(self) -> str:
        return sha256(self.manifest)

    def target(self, reference: str) -> str:
        return f"/v2/{self.repository}/manifests/{reference}"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make_image(
    repository: str, tag: str, size: int = 1024, layers: int = 1, blobs: list[bytes] | None = None, **more: object
) -> tuple[Image, list[bytes]]:
    """An image manifest of exactly that size (or longer, when its content is), and the blobs it names: new ones."""
    blobs = blobs or [
        b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}',
        *(os.urandom(4096) for _ in range(layers)),
    ]
    descriptors = [
        {"mediaType": LAYER_TYPE if number else CONFIG_TYPE, "digest": sha256(blob), "size": len(blob)}
        for number, blob in enumerate(blobs)
    ]
    note = {"org.opencontainers.image.description": os.urandom(8).hex()}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptors[0],
        "layers": descriptors[1:],
        "annotations": note,
    } | more
    note["org.opencontainers.image.description"] += "x" * max(0, size - len(json.dumps(manifest)))
    return Image(repository, tag, json.dumps(manifest).encode()), blobs


def make_referrer(subject: Image, artifact_type: str = "application/vnd.bench.signature") -> tuple[Image, str]:
    """A new referrer of the subject, and the reference to push it by. Its config is the specification's empty blob."""
    descriptor = {"mediaType": MANIFEST_TYPE, "digest": subject.digest, "size": len(subject.manifest)}
    image, _ = make_image(
        subject.repository, "", blobs=[EMPTY_JSON], artifactType=artifact_type, subject=descriptor, size=700
    )
    return image, image.digest


def push_image(port: int, image: Image, blobs: list[bytes]) -> None:
    """By digest, then by tag."""
    push_blobs(port, image.repository, blobs)
    for reference in (image.digest, image.tag):
        push_manifest(port, image, reference)


def push_blobs(port: int, repository: str, blobs: list[bytes]) -> None:
    with Connection(port) as connection:
        for blob in blobs:
            put_blob(connection, repository, blob)


def put_blob(connection: Connection, repository: str, blob: bytes) -> None:
    """POST, then one PUT."""
    upload = open_upload(connection, repository)
    connection.request("PUT", with_digest(upload, sha256(blob)), body=blob).expect("PUT of a blob", 201)


def push_manifest(port: int, image: Image, reference: str) -> float:
    """Seconds."""
    with Connection(port) as connection:
        begin = time.perf_counter()
        put_manifest(connection, image, reference)
        return time.perf_counter() - begin


def put_manifest(connection: Connection, image: Image, reference: str) -> None:
    fields = {"Content-Type": MANIFEST_TYPE}
    connection.request("PUT", image.target(reference), fields, image.manifest).expect("PUT of a manifest", 201)


def listed(connection: Connection, target: str, name: str, count: int) -> list:
    """The entries of a listing, which must be that many."""
    answer = connection.request("GET", target).expect(f"GET {target}", 200)
    entries = json.loads(answer.body)[name]
    if len(entries) != count:
        raise WrongAnswer(f"GET {target}: {len(entries)} entries, there should be {count}")
    return entries


def pages_of(connection: Connection, target: str) -> list[Answer]:
    """The whole of a listing, page by page as its Link headers lead."""
    answers = []
    while target:
        answers.append(connection.request("GET", target).expect(f"GET {target}", 200))
        target = _next_page(answers[-1])
    return answers


def check_pages(answers: list[Answer], name: str, count: int) -> None:
    found = sum(len(json.loads(answer.body)[name]) for answer in answers)
    if found != count:
        raise WrongAnswer(f"{found} {name} are listed, there are {count}")


def _next_page(answer: Answer) -> str:
    following = re.match(r"<([^>]*)>; *rel=\"?next", answer.headers.get("link", ""))
    if not following:
        return ""
    parts = urlsplit(following[1])
    return f"{parts.path}?{parts.query}"


def read_manifest(connection: Connection, method: str, image: Image, reference: str) -> None:
    answer = connection.request(method, image.target(reference), {"Accept": MANIFEST_TYPE})
    answer.expect(f"{method} of a manifest", 200)
    if answer.headers.get("docker-content-digest") != image.digest or (
        method == "GET" and answer.body != image.manifest
    ):
        raise WrongAnswer(f"{method} of a manifest: {answer.length} bytes, {answer.headers}")


def get_blob(connection: Connection, repository: str, digest: str, size: int) -> None:
    answer = connection.get_to(blob_target(repository, digest), lambda piece: None).expect("GET of a blob", 200)
    if answer.length != size:
        raise WrongAnswer(f"GET of a blob: {answer.length} bytes of {size}")


def referrers_of(connection: Connection, subject: Image, artifact_type: str = "") -> list[Answer]:
    """The list of a subject's referrers."""
    target = f"/v2/{subject.repository}/referrers/{subject.digest}"
    answers = pages_of(connection, target + (f"?artifactType={artifact_type}" if artifact_type else ""))
    for answer in answers if artifact_type else ():
        if "artifactType" not in answer.headers.get("oci-filters-applied", ""):
            raise WrongAnswer(f"GET {target}: OCI-Filters-Applied: {answer.headers.get('oci-filters-applied')}")
    return answers


def check_referrers(answers: list[Answer], count: int) -> None:
    check_pages(answers, "manifests", count)


def patch_at(connection: Connection, upload: str, at: int, chunk: bytes) -> str:
    """One PATCH with its Content-Range; where the next goes."""
    end = at + len(chunk) - 1
    fields = {"Content-Type": "application/octet-stream", "Content-Range": f"{at}-{end}"}
    answer = connection.request("PATCH", upload, fields, chunk).expect(f"PATCH at {at}", 202)
    if answer.headers.get("range", "").removeprefix("bytes=") != f"0-{end}":
        raise WrongAnswer(f"PATCH: Range: {answer.headers.get('range')}, sent {end + 1} bytes")
    return location_of(answer)


def push_chunked(
    port: int,
    repository: str,
    body: Body,
    *,
    after_post: Callable[[], None] = lambda: None,
    before_put: Callable[[], None] = lambda: None,
) -> PushTimes:
    """POST, one PATCH of unknown length, PUT: the way docker pushes. The clock stands still in between."""
    times = PushTimes()
    with Connection(port) as connection:
        begin = time.perf_counter()
        upload = open_upload(connection, repository)
        times.post_s = time.perf_counter() - begin
        after_post()

        begin = time.perf_counter()
        fields = {"Content-Type": "application/octet-stream"}
        answer = connection.request_chunked("PATCH", upload, fields, body)
        times.patch_s = time.perf_counter() - begin
        answer.expect("PATCH", 202)
        if answer.headers.get("range", "").removeprefix("bytes=") != f"0-{body.size - 1}":
            raise WrongAnswer(f"PATCH: Range: {answer.headers.get('range')}, sent {body.size} bytes")

        before_put()
        target = with_digest(location_of(answer), body.digest)
        begin = time.perf_counter()
        answer = connection.request("PUT", target)
        times.put_s = time.perf_counter() - begin
        check_commit(answer, body)
    return times


class TooSlow(Exception):
    """It was not done within its limit, and was stopped."""


def push_in_chunks(port: int, repository: str, body: Body, chunk_bytes: int, limit_s: float = math.inf) -> PushTimes:
    """POST, PATCHes of chunk_bytes each with its Content-Range, PUT."""
    times = PushTimes()
    with Connection(port) as connection:
        begin = time.perf_counter()
        upload = open_upload(connection, repository)
        times.post_s = time.perf_counter() - begin

        begin, at = time.perf_counter(), 0
        for chunk in body.chunks(chunk_bytes):
            upload = patch_at(connection, upload, at, chunk)
            at += len(chunk)
            if time.perf_counter() - begin > limit_s:
                raise TooSlow
        times.patch_s = time.perf_counter() - begin

        begin = time.perf_counter()
        answer = connection.request("PUT", with_digest(upload, body.digest))
        times.put_s = time.perf_counter() - begin
        check_commit(answer, body)
    return times


def push_single(port: int, repository: str, body: Body) -> PushTimes:
    """POST, then one PUT with the whole body."""
    times = PushTimes()
    with Connection(port) as connection:
        begin = time.perf_counter()
        upload = open_upload(connection, repository)
        times.post_s = time.perf_counter() - begin

        begin = time.perf_counter()
        fields = {"Content-Type": "application/octet-stream"}
        answer = connection.request_sized("PUT", with_digest(upload, body.digest), fields, body)
        times.put_s = time.perf_counter() - begin
        check_commit(answer, body)
    return times


def check_blob(port: int, target: str, body: Body, read: bool = False) -> None:
    """The server names the blob's size; with read, also gives the very bytes."""
    with Connection(port) as connection:
        answer = connection.request("HEAD", target).expect("HEAD of a blob", 200)
        if answer.headers.get("content-length") != str(body.size):
            raise WrongAnswer(f"HEAD of a blob: {answer.headers.get('content-length')} bytes of {body.size}")
        if read:
            comparison = Comparison(body)
            answer = connection.get_to(target, comparison.take).expect("GET of a blob", 200)
            if not comparison.is_equal or answer.length != body.size:
                raise WrongAnswer(f"GET of a blob: {answer.length} bytes, others than were pushed")


def blob_target(repository: str, digest: str) -> str:
    return f"/v2/{repository}/blobs/{digest}"


def open_upload(connection: Connection, repository: str) -> str:
    return location_of(connection.request("POST", f"/v2/{repository}/blobs/uploads/").expect("POST of an upload", 202))


def location_of(answer: Answer) -> str:
    parts = urlsplit(answer.headers["location"])
    return parts.path + (f"?{parts.query}" if parts.query else "")


def with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


def check_commit(answer: Answer, body: Body) -> None:
    answer.expect("PUT of the digest", 201)
    if answer.headers.get("docker-content-digest") != body.digest:
        raise WrongAnswer(f"PUT of the digest: Docker-Content-Digest: {answer.headers.get('docker-content-digest')}")


def _chunks(body: Body) -> Iterator[list]:
    """Chunks as they go on the wire, several to one system call."""
    buffers: list = []
    for piece in body.pieces(CHUNK_BYTES):
        buffers += [b"%x\r\n" % len(piece), piece, b"\r\n"]
        if len(buffers) == 3 * CHUNKS_PER_SEND:
            yield buffers
            buffers = []
    yield buffers + [b"0\r\n\r\n"]
