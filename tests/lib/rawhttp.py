"""HTTP/1.1 as bytes on a socket: a client that sends exactly what a test says and hides nothing of the answer."""

import json
import socket

TIMEOUT_S = 60


class Response:
    """One answer: status, headers in the order they came, body bytes as they stand after the chunked coding."""

    def __init__(self, version, status, reason, headers):
        self.version = version
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = b""

    def all(self, name):
        """Every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name, default=None):
        """A header's value, repeated ones joined; default when it is absent."""
        values = self.all(name)
        return ", ".join(values) if values else default

    def __getitem__(self, name):
        value = self.get(name)
        assert value is not None, f"no {name} header in {self!r}"
        return value

    def __contains__(self, name):
        return bool(self.all(name))

    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The OCI code of an error body's first error; None when there is no such body."""
        try:
            return self.json()["errors"][0]["code"]
        except (ValueError, KeyError, IndexError, TypeError):
            return None

    @property
    def message(self):
        try:
            return self.json()["errors"][0].get("message", "")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return ""

    def __repr__(self):
        return f"<{self.status} {self.reason} {self.headers} {self.body[:300]!r}>"


class Connection:
    """One TCP connection."""

    def __init__(self, address, timeout=TIMEOUT_S):
        self.sock = socket.create_connection(address, timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Close with RST instead of FIN, as a client does that vanishes with unread data."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def _fill(self):
        data = self.sock.recv(1 << 18)
        if not data:
            raise EOFError(f"connection closed; unread: {self.buffer[:200]!r}")
        self.buffer += data

    def _line(self):
        while b"\n" not in self.buffer:
            self._fill()
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r").decode("latin-1")

    def exactly(self, count):
        """The next bytes, as they come."""
        parts, have = [self.buffer], len(self.buffer)
        while have < count:
            data = self.sock.recv(min(1 << 20, count - have))
            if not data:
                raise EOFError(f"connection closed {count - have} bytes before the end of the body")
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self.buffer = whole[count:]
        return whole[:count]

    def at_eof(self, timeout=10):
        """Has the server closed its side (with nothing more to say)? Waits for it."""
        self.sock.settimeout(timeout)
        try:
            return self.buffer == b"" and self.sock.recv(1) == b""
        except (ConnectionResetError, BrokenPipeError):
            return True
        except TimeoutError:
            return False

    def head(self):
        """The status line and headers of the next answer, interim ones (100) included."""
        version, _, rest = self._line().partition(" ")
        status, _, reason = rest.partition(" ")
        headers = []
        while line := self._line():
            name, _, value = line.partition(":")
            headers.append((name, value.strip()))
        return Response(version, int(status), reason, headers)

    def response(self, method="GET"):
        """The next final answer, whole."""
        while True:
            response = self.head()
            if response.status >= 200:
                break
        if method == "HEAD" or response.status in (204, 304):
            return response
        if "chunked" in response.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self._line().split(";")[0], 16):
                parts.append(self.exactly(size))
                self._line()
            while self._line():
                pass
            response.body = b"".join(parts)
        elif "Content-Length" in response:
            response.body = self.exactly(int(response["Content-Length"]))
        else:
            parts = [self.buffer]
            self.buffer = b""
            while data := self.sock.recv(1 << 18):
                parts.append(data)
            response.body = b"".join(parts)
        return response


def head_bytes(method, target, host, headers=(), version="HTTP/1.1"):
    """A request's line and headers, with Host in front unless one is given."""
    lines = [f"{method} {target} {version}"]
    if not any(name.lower() == "host" for name, _ in headers):
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data):
    """One chunk of the chunked coding; the last when data is empty."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Client:
    """Requests on one connection that is kept alive and opened again when the server has closed it."""

    def __init__(self, address, timeout=TIMEOUT_S, headers=()):
        self.address = address
        self.timeout = timeout
        self.headers = list(headers)
        self.connection = None

    @property
    def host(self):
        return f"{self.address[0]}:{self.address[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def request(self, method, target, body=None, headers=(), chunked=False, length=None):
        """
        Send a request, read its answer. body: bytes, or an iterable of bytes with chunked=True or its length given.
        A request without a body says Content-Length: 0 where servers expect one (POST, PUT, PATCH).
        """
        headers = [*self.headers, *(headers.items() if isinstance(headers, dict) else headers)]
        if chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        elif body is not None or length is not None or method in ("POST", "PUT", "PATCH"):
            headers.append(("Content-Length", len(body or b"") if length is None else length))
        for attempt in (1, 2):
            fresh = self.connection is None
            if fresh:
                self.connection = Connection(self.address, self.timeout)
            try:
                self._send(method, target, body, headers, chunked)
                response = self.connection.response(method)
                break
            except (EOFError, ConnectionError):
                self.close()
                if fresh or attempt == 2 or not (body is None or isinstance(body, bytes)):
                    raise
            except BaseException:
                self.close()
                raise
        if response.get("Connection", "").lower() == "close":
            self.close()
        return response

    def _send(self, method, target, body, headers, chunked):
        connection = self.connection
        head = head_bytes(method, target, self.host, headers)
        if chunked:
            parts = [body] if isinstance(body, bytes) else (body or [])
            connection.send(head)
            for part in parts:
                if part:
                    connection.send(chunk(part))
            connection.send(chunk(b""))
        elif body is None or isinstance(body, bytes):
            connection.send(head + (body or b""))
        else:
            connection.send(head)
            for part in body:
                connection.send(part)

    def get(self, target, headers=()):
        return self.request("GET", target, headers=headers)

    def head(self, target, headers=()):
        return self.request("HEAD", target, headers=headers)

    def post(self, target, body=None, headers=(), **kw):
        return self.request("POST", target, body, headers, **kw)

    def put(self, target, body=None, headers=(), **kw):
        return self.request("PUT", target, body, headers, **kw)

    def patch(self, target, body=None, headers=(), **kw):
        return self.request("PATCH", target, body, headers, **kw)

    def delete(self, target, headers=()):
        return self.request("DELETE", target, headers=headers)
