"""
An S3 server that keeps only the length of parts, so that a test can push more than a machine can store. Other objects it
keeps. It knows what an orlop needs for pushes, checks no signature, and takes every name for its one bucket.
"""

import contextlib
import hashlib
import http.server
import socketserver
import threading
import urllib.parse

PIECE_BYTES = 1 << 20


class Sink(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Use as a context manager."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.objects = {}  # key: (length, bytes or None)
        self.uploads = {}  # id: {part number: length}

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self):
        return {
            "AWS_ACCESS_KEY_ID": "sink",
            "AWS_SECRET_ACCESS_KEY": "sink",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }

    def handle_error(self, *_):
        """Connections that end are no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def log_message(self, *_):
        pass

    def _target(self):
        parts = urllib.parse.urlsplit(self.path)
        self.key = urllib.parse.unquote(parts.path).lstrip("/").partition("/")[2]
        self.query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        self.length = int(self.headers.get("Content-Length", 0))

    def _body(self):
        """The body's bytes; those of a part are read and forgotten: None."""
        if self.command == "POST" or "uploadId" not in self.query:
            return self.rfile.read(self.length)
        buffer, left = memoryview(bytearray(PIECE_BYTES)), self.length
        while left:
            got = self.rfile.readinto(buffer[: min(PIECE_BYTES, left)])
            if not got:
                raise ConnectionError
            left -= got
        return None

    def _answer(self, status, body=b"", length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def _xml(self, name, inside):
        self._answer(200, f"<{name}>{inside}</{name}>".encode())

    def _error(self, status, code):
        self._answer(status, b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code></Error>".encode())

    def do_PUT(self):
        self._target()
        body, sink = self._body(), self.server
        if "uploadId" in self.query:
            number = int(self.query["partNumber"])
            with sink.lock:
                sink.uploads[self.query["uploadId"]][number] = self.length
            self._answer(200, ETag=f'"part-{number}"')
            return
        with sink.lock:
            is_new = self.key not in sink.objects
            if is_new or self.headers.get("If-None-Match") != "*":
                sink.objects[self.key] = (self.length, body)
                is_new = True
        self._answer(200, ETag='"object"') if is_new else self._error(412, "PreconditionFailed")

    def do_POST(self):
        self._target()
        body, sink = self._body(), self.server
        if "uploads" in self.query:
            name = hashlib.sha256(self.key.encode()).hexdigest()
            with sink.lock:
                sink.uploads[name] = {}
            self._xml("InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>")
        elif "uploadId" in self.query:
            with sink.lock:
                parts = sink.uploads.pop(self.query["uploadId"])
                sink.objects[self.key] = (sum(parts.values()), None)
            self._xml("CompleteMultipartUploadResult", "<ETag>whole</ETag>")
        else:
            with sink.lock:
                for key in list(sink.objects):
                    if f"<Key>{key}</Key>".encode() in body:
                        del sink.objects[key]
            self._xml("DeleteResult", "")

    def do_DELETE(self):
        self._target()
        with self.server.lock:
            self.server.objects.pop(self.key, None)
            self.server.uploads.pop(self.query.get("uploadId"), None)
        self._answer(204)

    def do_GET(self):
        self._target()
        if not self.key:
            self._list()
            return
        with self.server.lock:
            length, body = self.server.objects.get(self.key, (None, None))
        if length is None:
            self._error(404, "NoSuchKey")
        elif self.command == "HEAD":
            self._answer(200, length=length, ETag='"object"')
        elif body is None:
            self._error(403, "AccessDenied")  # its bytes are gone: a test that reads them is wrong
        else:
            self._answer(200, body, ETag='"object"')

    do_HEAD = do_GET

    def _list(self):
        prefix, after = self.query.get("prefix", ""), self.query.get("start-after", "")
        with self.server.lock:
            found = sorted(
                (key, length) for key, (length, _) in self.server.objects.items()
                if key.startswith(prefix) and key > after
            )
        when = "2026-01-01T00:00:00.000Z"
        entries = "".join(
            f"<Contents><Key>{key}</Key><LastModified>{when}</LastModified><Size>{length}</Size></Contents>"
            for key, length in found
        )
        self._xml("ListBucketResult", f"<IsTruncated>false</IsTruncated>{entries}")
