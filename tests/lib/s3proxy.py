"""
A proxy between an S3 client and its server that counts every request, and, when it is told to, breaks some.

It passes bytes on as they come: one thread a connection, bodies in pieces. The Host header stays the client's, which is
what its signature covers.
"""

import collections
import contextlib
import dataclasses
import random
import socket
import struct
import threading
import time
import urllib.parse

PIECE_BYTES = 1 << 18
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST

# What can be done to a request.
RESET_BEFORE = "reset"  # the connection breaks, the server never hears of it
DELAY = "delay"  # the answer comes late
SLOW_DOWN = "503"  # instead of an answer; the server never hears of it
INTERNAL = "500"
CUT_REQUEST = "cut request"  # the connection breaks in the middle of the request's body
CUT_ANSWER = "cut answer"  # … of the answer's body
LOST_ANSWER = "lost answer"  # the server does it, the client never hears of it
REFUSED = "403"  # only when asked for: nobody tries that again
FAULTS = (RESET_BEFORE, DELAY, SLOW_DOWN, INTERNAL, CUT_REQUEST, CUT_ANSWER, LOST_ANSWER)

UNKNOWN = "501"  # … because the server does not know such a thing
ERROR_CODES = {SLOW_DOWN: "SlowDown", INTERNAL: "InternalError", REFUSED: "AccessDenied", UNKNOWN: "NotImplemented"}

# What the server does with If-None-Match of a PUT. (It always honours it: the header is part of what is signed. So that it
# is ignored is for the client to see, and not for who reads the object.)
HONOURED, IGNORED, REFUSED_AS_UNKNOWN = "honoured", "ignored", "refused"


@dataclasses.dataclass
class Request:
    operation: str
    key: str
    status: int
    bytes_up: int
    bytes_down: int
    begun: float  # when its head had come
    ended: float = 0.0  # when its answer began to go back
    is_conditional: bool = False  # says If-None-Match
    hides_refusal: bool = False  # its 412 is passed on as a success
    copied: int | None = 0  # bytes the server was told to copy; None: nobody knows


def operation_of(method, target):
    """(the API's name of the operation, the key)"""
    path, _, text = target.partition("?")
    key = urllib.parse.unquote(path).lstrip("/").partition("/")[2]
    query = dict(urllib.parse.parse_qsl(text, keep_blank_values=True))
    if "uploadId" in query:
        if method == "PUT":
            return "UploadPart", key
        return {"POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload", "GET": "ListParts"}[method], key
    if "uploads" in query:
        return ("CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"), key
    if "delete" in query:
        return "DeleteObjects", key
    if method == "GET" and not key:
        return "ListObjects", query.get("prefix", "")
    return {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}[method], key


class Broken(Exception):
    """This connection is to be ended."""


class Peer:
    """One side's socket, with what was read too far."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def fill(self):
        data = self.sock.recv(PIECE_BYTES)
        if not data:
            raise Broken
        self.buffer += data

    def head(self):
        """(first line, [(name, value)], the bytes)"""
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        raw, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return first, dict(headers), raw + b"\r\n\r\n"

    def pass_bytes(self, count, to):
        """Pass count bytes of this side's on."""
        while count:
            data = self.buffer[:count] or self.sock.recv(min(PIECE_BYTES, count))
            self.buffer = self.buffer[len(data) :] if self.buffer else b""
            if not data:
                raise Broken
            count -= len(data)
            if to:
                to.sock.sendall(data)

    def pass_chunked(self, to):
        """Pass a chunked body on; its length."""
        total = 0
        while True:
            while b"\r\n" not in self.buffer:
                self.fill()
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            size = int(line.split(b";")[0], 16)
            if to:
                to.sock.sendall(line + b"\r\n")
            self.pass_bytes(size + 2, to)
            if not size:
                return total
            total += size

    def reset(self):
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()


class Proxy:
    """Use as a context manager. upstream: "http://HOST:PORT"."""

    sizes = {}  # of the objects, and of the parts of unfinished uploads, that went through any of them
    sizes_lock = threading.Lock()

    def __init__(self, upstream, port=0, fault_rate=0.0, delay_s=0.5, seed=None):
        where = urllib.parse.urlsplit(upstream)
        self.upstream = (where.hostname, where.port)
        self.fault_rate = fault_rate
        self.delay_s = delay_s
        self.latency_s = 0.0  # of every request, as to a store far away
        self.conditions = HONOURED
        self.fault_of = None  # (operation, key): the fault of this request, or None to let it pass
        self.random = random.Random(seed)
        self.faults = collections.Counter()
        self.lock = threading.Lock()
        self.requests = []
        self.active = 0
        self.unanswered = set()
        self.peak = 0  # of requests whose answers have not begun to be passed on, since the last measure() began
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.open = set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            sockets = list(self.open)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # ---- counting ----

    @contextlib.contextmanager
    def measure(self):
        """A Count of the requests that end meanwhile. What the measured action left running is waited for."""
        self.settle()
        with self.lock:
            first, self.peak = len(self.requests), 0
        count = Count()
        yield count
        self.settle()
        with self.lock:
            count.requests, count.peak = self.requests[first:], self.peak

    def settle(self, quiet_s=0.15):
        """Wait until nothing was under way for a moment."""
        quiet_since, seen = time.monotonic(), -1
        while time.monotonic() - quiet_since < quiet_s:
            time.sleep(0.01)
            with self.lock:
                busy, now = self.active, len(self.requests)
            if busy or now != seen:
                quiet_since, seen = time.monotonic(), now

    # ---- connections ----

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(sock,), daemon=True).start()

    def _connection(self, sock):
        client, server = Peer(sock), None
        with self.lock:
            self.open.add(sock)
        try:
            server = Peer(socket.create_connection(self.upstream))
            while True:
                head = client.head()
                with self.lock:
                    self.active += 1
                    self.unanswered.add(client)
                    self.peak = max(self.peak, len(self.unanswered))
                try:
                    self._exchange(client, server, *head)
                finally:
                    with self.lock:
                        self.active -= 1
                        self.unanswered.discard(client)
        except (Broken, OSError):
            pass
        finally:
            with self.lock:
                self.open.discard(sock)
            client.sock.close()
            if server:
                server.sock.close()

    def _choose_fault(self, operation, key):
        if self.fault_of:
            return self.fault_of(operation, key)
        with self.lock:
            if self.random.random() >= self.fault_rate:
                return None
            fault = self.random.choice(FAULTS)
            self.faults[fault] += 1
            return fault

    def _exchange(self, client, server, first, headers, raw):
        begun = time.monotonic()
        method, target, _ = first.split(" ", 2)
        length = int(headers.get("content-length", 0))
        operation, key = operation_of(method, target)
        request = Request(operation, key, 0, length, 0, begun)
        if headers.get("x-amz-copy-source"):
            request.operation = operation = operation + "Copy"
            request.copied = self._copied_bytes(headers)
        is_conditional = method == "PUT" and "if-none-match" in headers
        if is_conditional and self.conditions == REFUSED_AS_UNKNOWN:
            fault = UNKNOWN
        else:
            fault = self._choose_fault(operation, key)
        request.is_conditional = is_conditional
        request.hides_refusal = is_conditional and self.conditions == IGNORED
        if fault == RESET_BEFORE:
            client.reset()
            raise Broken
        if fault in ERROR_CODES:
            client.pass_bytes(length, None)
            self._answer_error(client, method, fault)
            return
        if fault == DELAY:
            time.sleep(self.delay_s)
        if self.latency_s:
            time.sleep(self.latency_s)
        if headers.get("expect"):  # the body is wanted in any case, whatever the server would say
            client.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        server.sock.sendall(raw)
        if fault == CUT_REQUEST:
            client.pass_bytes(length // 2, server)
            server.reset()
            client.reset()
            raise Broken
        client.pass_bytes(length, server)
        self._pass_answer(client, server, method, target, fault, request)

    # What is copied is known by what was written: a copy names its source, and a range of it if it is not the whole.

    def _copied_bytes(self, headers):
        if span := headers.get("x-amz-copy-source-range"):
            first, last = span.removeprefix("bytes=").split("-")
            return int(last) - int(first) + 1
        source = urllib.parse.unquote(headers["x-amz-copy-source"]).lstrip("/").partition("/")[2]
        with self.sizes_lock:
            return self.sizes.get(source)

    def _note_size(self, request, target):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query))
        upload, size = query.get("uploadId"), request.bytes_up + (request.copied or 0)
        with self.sizes_lock:
            if request.operation in ("UploadPart", "UploadPartCopy"):
                self.sizes.setdefault(upload, {})[query["partNumber"]] = size
            elif request.operation == "CompleteMultipartUpload":
                self.sizes[request.key] = sum(self.sizes.pop(upload, {}).values())
            elif request.operation in ("PutObject", "PutObjectCopy"):
                self.sizes[request.key] = size

    def _answer_error(self, client, method, fault):
        body = f"<Error><Code>{ERROR_CODES[fault]}</Code></Error>".encode()
        head = f"HTTP/1.1 {fault} Fault\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sock.sendall(head.encode() + (b"" if method == "HEAD" else body))

    def _pass_answer(self, client, server, method, target, fault, request):
        first, headers, raw = server.head()
        while first.split(" ")[1] == "100":
            first, headers, raw = server.head()
        request.status = int(first.split(" ")[1])
        if request.status == 412 and request.hides_refusal:
            server.pass_bytes(int(headers.get("content-length", 0)), None)
            raw, headers = b"HTTP/1.1 200 OK\r\nETag: \"0\"\r\nContent-Length: 0\r\n\r\n", {}
            request.status = 200
        to = None if fault == LOST_ANSWER else client
        has_body = method != "HEAD" and request.status not in (204, 304)
        length = int(headers.get("content-length", 0)) if has_body else 0
        # Counted before the answer is passed on: who has the answer finds it counted.
        request.ended = time.monotonic()
        if request.status == 200:
            self._note_size(request, target)
        with self.lock:
            self.requests.append(request)
            self.unanswered.discard(client)
        if to:
            to.sock.sendall(raw)
        if fault == CUT_ANSWER:
            server.pass_bytes(length // 2, to)
            client.reset()
            raise Broken
        if has_body and headers.get("transfer-encoding") == "chunked":
            request.bytes_down = server.pass_chunked(to)
        else:
            server.pass_bytes(length, to)
            request.bytes_down = length
        if fault == LOST_ANSWER:
            client.reset()
            raise Broken
        if headers.get("connection") == "close":
            raise Broken


# Where the bytes of blobs are: at their digests, in multipart uploads, in the objects of sessions; and where
# docker-registry has them.
DATA = ("blobs/", "data/", "uploads/")
DATA_END = "/data"


class Count:
    """The requests of one measured action."""

    def __init__(self):
        self.requests = []
        self.peak = 0  # of those under way at once

    def __len__(self):
        return len(self.requests)

    def of(self, *operations):
        return [request for request in self.requests if request.operation in operations]

    @staticmethod
    def _is_data(request):
        return request.key.endswith(DATA_END) or any(f"/{place}" in f"/{request.key}" for place in DATA)

    @property
    def written(self):
        """Bytes of bodies to keys that hold blobs' bytes, the heads of session objects included."""
        return sum(
            request.bytes_up for request in self.of("PutObject", "UploadPart") if self._is_data(request)
        )

    @property
    def read(self):
        """Bytes of objects read from where blobs' bytes are, pointers left out."""
        return sum(
            request.bytes_down
            for request in self.of("GetObject")
            if self._is_data(request) and not request.key.endswith(".at") and request.status < 300
        )

    @property
    def copied(self):
        """Bytes that the server was told to copy."""
        unknown = [request.key for request in self.requests if request.copied is None]
        assert not unknown, f"copied from what did not go through a proxy: {unknown[:5]}"
        return sum(request.copied for request in self.requests)

    @property
    def round_trips(self):
        """
        How many requests went out one after another: the longest chain in which each began after the one before had
        its answer. Told best with a latency that is long beside what the client itself takes.
        """
        chain, free_at = 0, 0.0
        for request in sorted(self.requests, key=lambda request: request.ended):
            if request.begun >= free_at:
                chain, free_at = chain + 1, request.ended
        return chain

    def __str__(self):
        operations = collections.Counter(request.operation for request in self.requests)
        return f"{len(self)} requests ({', '.join(f'{count} {name}' for name, count in sorted(operations.items()))})"

    def details(self):
        lines = [f"{r.operation} {r.key} {r.status} up {r.bytes_up} down {r.bytes_down}" for r in self.requests[:60]]
        return "\n".join([str(self), *lines])
