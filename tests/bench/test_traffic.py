"""The clients of bench/traffic.c, on a registry that answers as it is told to."""

import hashlib
import http.server
import pathlib
import sys
import threading

import pytest

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

from orlop_bench import client, traffic  # noqa: E402
from orlop_bench.client import WrongAnswer  # noqa: E402

CLIENTS, SECONDS, SEED = 3, 1, 7
LAYER = bytes(range(256)) * 1000
SHARES = {"manifest GET": 40, "manifest HEAD": 20, "blob GET": 20, "blob push": 10, "manifest PUT": 10}


class Registry(http.server.BaseHTTPRequestHandler):
    """One image, one layer; what is pushed is looked at. spoil(operation, status, headers, body) changes an answer."""

    protocol_version = "HTTP/1.1"
    image: client.Image
    spoil = staticmethod(lambda *answer: answer[1:])
    pushed: set[str] = set()
    tags: set[str] = set()

    def answer(self, operation, status, headers, body=b""):
        status, headers, body = self.spoil(operation, status, headers, body)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        if self.path == f"/v2/a/b/blobs/{client.sha256(LAYER)}":
            return self.answer("blob GET", 200, {}, LAYER)
        assert self.path in {self.image.target("latest"), self.image.target(self.image.digest)}
        assert self.headers["Accept"] == client.MANIFEST_TYPE
        digest = {"Docker-Content-Digest": self.image.digest}
        self.answer(f"manifest {self.command}", 200, digest, self.image.manifest)

    do_HEAD = do_GET

    def do_POST(self):
        assert self.path == "/v2/a/b/blobs/uploads/"
        self.answer("POST", 202, {"Location": "/v2/a/b/blobs/uploads/1?state=x"})

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        if "/manifests/" in self.path:
            assert body == self.image.manifest
            self.tags.add(self.path)
            return self.answer("manifest PUT", 201, {"Docker-Content-Digest": digest})
        assert self.path == f"/v2/a/b/blobs/uploads/1?state=x&digest={digest}"
        assert digest not in self.pushed, "every layer is pushed once"
        self.pushed.add(digest)
        self.answer("blob push", 201, {"Docker-Content-Digest": digest})

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """The clients have gone in the middle of an answer, as they do after a wrong one."""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return traffic.build(tmp_path_factory.mktemp("program"))


@pytest.fixture
def registry():
    image, _ = client.make_image("a/b", "latest", 1500)
    handler = type("Handler", (Registry,), {"image": image, "pushed": set(), "tags": set()})
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.port = server.server_address[1]
        yield handler
        server.shutdown()


@pytest.fixture
def load(tmp_path, registry):
    (tmp_path / "manifest").write_bytes(registry.image.manifest)
    (tmp_path / "layer").write_bytes(LAYER)
    lines = [f"share {traffic.operation_name(operation)} {share}" for operation, share in SHARES.items()]
    lines += [f"image a/b latest {registry.image.digest} {tmp_path}/manifest"]
    lines += [f"layer a/b {client.sha256(LAYER)} {tmp_path}/layer", "push 1", "push 70000", "push 3000000"]
    (tmp_path / "file").write_text("\n".join(lines))
    return traffic.Load(CLIENTS, SECONDS, SEED, tmp_path / "file")


def test_every_operation_is_done_and_timed(program, registry, load):
    found = traffic.run(program, registry.port, load)
    assert set(found) == set(SHARES)
    count = sum(map(len, found.values()))
    for operation, times in found.items():
        assert times == sorted(times) and times[0] > 0
        assert len(times) == pytest.approx(count * SHARES[operation] / 100, rel=0.5, abs=5)
    assert len(registry.pushed) == len(found["blob push"])
    assert registry.tags <= {registry.image.target(f"t{number}") for number in range(100)}


def other_byte(operation, status, headers, body):
    return status, headers, body[:-1] + b"?" if body else body


def shorter(operation, status, headers, body):
    return status, headers, body[:-1]


def other_digest(operation, status, headers, body):
    return status, {name: "sha256:1" if "Digest" in name else value for name, value in headers.items()}, body


def no_digest(operation, status, headers, body):
    return status, {name: value for name, value in headers.items() if "Digest" not in name}, body


def failed(operation, status, headers, body):
    return 500, headers, b"the store is gone"


@pytest.mark.parametrize(
    "spoilt, how, message",
    [
        ("manifest GET", other_byte, "GET of a manifest: 1500 bytes, others than were pushed"),
        ("manifest GET", shorter, "GET of a manifest: 1499 bytes"),
        ("manifest GET", other_digest, "GET of a manifest: Docker-Content-Digest: sha256:1, it is sha256:"),
        ("manifest HEAD", no_digest, "HEAD of a manifest: Docker-Content-Digest: , it is"),
        ("blob GET", other_byte, "GET of a blob: 256000 bytes, others than were pushed"),
        ("blob GET", shorter, "GET of a blob: 255999 bytes"),
        ("POST", failed, "POST of an upload: 500 the store is gone"),
        ("blob push", failed, "PUT of a blob: 500 the store is gone"),
        ("blob push", other_digest, "PUT of a blob: Docker-Content-Digest"),
        ("manifest PUT", failed, "PUT of a manifest: 500 the store is gone"),
        ("manifest PUT", no_digest, "PUT of a manifest: Docker-Content-Digest"),
    ],
)
def test_a_wrong_answer_ends_it(program, registry, load, spoilt, how, message):
    registry.spoil = staticmethod(lambda operation, *answer: how(operation, *answer) if operation == spoilt else answer)
    with pytest.raises(WrongAnswer) as caught:
        traffic.run(program, registry.port, load)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "line, message",
    [
        ("share blob-get 19", "101 %"),
        ("image a/b latest", "not understood"),
        ("layer a/b sha256:1 /nowhere", "/nowhere: No such file"),
        ("push 70000000", "at most"),
        ("\n".join(["push 100"] * 256), "at most 256"),
    ],
)
def test_a_wrong_file_is_refused(program, registry, load, line, message):
    text = load.file.read_text()
    if "101" in message:
        text, line = text.replace("share blob-get 20", "share blob-get 21"), ""
    load.file.write_text(f"{text}\n{line}\n" if line else text)
    with pytest.raises(WrongAnswer) as caught:
        traffic.run(program, registry.port, load)
    assert message in str(caught.value)
