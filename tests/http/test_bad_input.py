"""
Bad input: one table. Each row is a request (or the beginning of one) as bytes, the statuses it may get, the OCI code
and words of the message. After each the server is unharmed: healthy, a good push and pull works; at the end the store
checks clean.
"""

import dataclasses
import json
import uuid

import orlop
import pytest
from orlop import OCI_INDEX, OCI_MANIFEST, sha256
from rawhttp import Connection, chunk, head_bytes

ABSENT = "sha256:" + "0" * 64
MANIFEST_LIMIT = 4 * 1024 * 1024
TYPE = [("Content-Type", OCI_MANIFEST)]


class Context:
    """What a row's request may refer to: a repository with an image under "latest", an open session with 100 bytes."""

    def __init__(self, server):
        self.server = server
        self.host = server.host
        self.repo = "bad/input"
        self.session_bytes = orlop.random_bytes(100)
        self._session = None
        with server.client() as client:
            self.image = client.push_image(self.repo, "latest", layer_bytes=2048)
        self.blob = sha256(self.image.layers[0])

    @property
    def session(self):
        """The row's own session: opened when the row first speaks of it."""
        if self._session is None:
            with self.server.client() as client:
                self._session = client.start_upload(self.repo)
                assert client.patch(self._session, self.session_bytes).status == 202
        return self._session

    def next_row(self):
        self._session = None

    def request(self, method, target, headers=(), body=None):
        """Bytes of a well-formed request."""
        headers = list(headers)
        if body is not None:
            headers.append(("Content-Length", len(body)))
        return head_bytes(method, target, self.host, headers) + (body or b"")


@dataclasses.dataclass
class Row:
    name: str
    build: callable  # Context -> bytes to send
    status: tuple
    code: str = None  # None: not looked at (the answer need not come from the API)
    message: str = ""
    method: str = "GET"
    then: callable = None  # (Context, client) -> more to check
    closes: bool = False  # the connection may be closed without any answer at all


ROWS = []


def row(name, build, status, code=None, message="", **kw):
    ROWS.append(Row(name, build, status if isinstance(status, tuple) else (status,), code, message, **kw))


def get_row(name, target, status, code=None, message="", method="GET", headers=(), **kw):
    """A row whose request is one line and headers; target may use {repo}, {blob}, {session}."""

    def build(context):
        filled = target.replace("{repo}", context.repo).replace("{blob}", context.blob)
        if "{session}" in filled:
            filled = filled.replace("{session}", context.session)
        return context.request(method, filled, headers)

    row(name, build, status, code, message, method=method, **kw)


# ---- names ----

for label, name in {
    "upper": "Upper", "dot-start": ".a", "dot-end": "a.", "two-dots": "a..b", "dash-start": "-a", "dash-end": "a-",
    "three-underscores": "a___b", "mixed-separators": "a._b", "underscore-start": "_a", "slash-start": "/a",
    "slash-end": "a/",
    "two-slashes": "a//b", "space": "a%20b", "star": "a*b", "backslash": "a%5Cb", "utf8": "%C3%A4",
    "not-utf8": "%FF%FE",
    "colon": "a:b", "at": "a@b", "tilde": "~a", "plus": "a+b",
    "very-long": "a" * 256, "very-long-parts": "/".join(["ab"] * 90),
    "extremely-long": "a" * 5000, "parent": "..", "dot": ".", "parent-inside": "a/../b", "encoded-parent": "%2e%2e/a",
    "encoded-parent-slash": "a%2f..%2fb", "question": "a%3Fb", "percent": "a%25b", "newline": "a%0Ab",
    "control": "a%01b",
    "del": "a%7Fb", "nul": "a%00b", "nul-end": "a%00",
}.items():  # fmt: skip
    for endpoint, method, tail in (
        ("tags", "GET", "/tags/list"),
        ("manifest", "GET", "/manifests/latest"),
        ("blob", "GET", "/blobs/" + ABSENT),
        ("upload", "POST", "/blobs/uploads/"),
        ("referrers", "GET", "/referrers/" + ABSENT),
        ("delete", "DELETE", "/manifests/latest"),
    ):
        raw_bad = any(escape in name for escape in ("%00", "%0A", "%01", "%7F"))
        extremely = len(name) > 4000
        get_row(
            f"name-{label}-{endpoint}",
            f"/v2/{name}{tail}",
            (400, 414, 431) if extremely else (400, 404) if name in ("..", ".", "/a", "a/") else 400,
            None if raw_bad or extremely or name in ("..", ".", "/a", "a/") else "NAME_INVALID",
            "" if raw_bad or extremely or name in ("..", ".", "/a", "a/") else "name",
            method=method,
            headers=[("Content-Length", 0)] if method == "POST" else (),
        )

for label, path in {
    "bad-escape": "/v2/a%/tags/list", "bad-escape-hex": "/v2/%zz/tags/list", "half-escape": "/v2/a/tags/list%2",
    "traversal": "/v2/../../../etc/passwd", "encoded-traversal": "/v2/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "slash-traversal": "/v2/..%2f..%2f..%2fetc%2fpasswd", "blob-traversal": "/v2/a/blobs/..%2f..%2forlop.json",
    "blob-traversal-2": "/v2/a/blobs/../../orlop.json",
    "manifest-traversal": "/v2/a/manifests/..%2f..%2f..%2forlop.json",
    "upload-traversal": "/v2/a/blobs/uploads/..%2f..%2forlop.json", "backslashes": "/v2/..%5c..%5corlop.json",
    "nul": "/v2/a/manifests/latest%00.json", "nul-digest": f"/v2/a/blobs/{ABSENT}%00", "double": "/v2/%252e%252e/x",
    "overlong-utf8": "/v2/%c0%ae%c0%ae/x", "long": "/v2/" + "a/" * 3000 + "tags/list", "empty": "//",
    "dots": "/v2/./_catalog",
    "up-to-v2": "/v2/../v2/_catalog",
}.items():  # fmt: skip
    get_row(f"path-{label}", path, (400, 404, 414, 431))

# ---- tags, digests ----

for label, tag in {
    "dot": ".x", "dash": "-x", "long": "a" * 129, "space": "a%20b", "slash": "a%2Fb", "utf8": "%C3%A4", "at": "a@b",
    "newline": "a%0Ab", "nul": "a%00b", "not-utf8": "%FF",
}.items():  # fmt: skip

    def build_tag_put(context, tag=tag):
        return context.request("PUT", f"/v2/{context.repo}/manifests/{tag}", TYPE, context.image.manifest)

    has_control = "%0A" in tag or "%00" in tag
    row(f"tag-put-{label}", build_tag_put, (400, 404) if label == "slash" else 400,
        None if has_control or label == "slash" else "TAG_INVALID",
        "" if has_control or label == "slash" else "tag", method="PUT")  # fmt: skip
    get_row(f"tag-get-{label}", f"/v2/{{repo}}/manifests/{tag}", (400, 404) if has_control else 404)
    get_row(f"tag-delete-{label}", f"/v2/{{repo}}/manifests/{tag}", (400, 404), method="DELETE")

for label, digest in {
    "short": "sha256:abc", "long": "sha256:" + "0" * 65, "upper": "sha256:" + "A" * 64, "not-hex": "sha256:" + "g" * 64,
    "no-hex": "sha256:",
    "no-algorithm": ":" + "0" * 64, "md5": "md5:" + "0" * 32, "upper-algorithm": "SHA256:" + "0" * 64,
    "two-colons": "sha256::" + "0" * 64, "space": "sha256:%20" + "0" * 63, "sha512-short": "sha512:" + "0" * 64,
    "sha256-long": "sha256:" + "0" * 128, "huge": "sha256:" + "0" * 3000, "utf8": "sha256:%C3%A4",
    "plus": "sha256+b64:abc",
    "bare": "0" * 64, "dots": "sha256:..", "slash": "sha256:%2F..%2F" + "0" * 58,
}.items():  # fmt: skip
    loose = label in ("bare", "slash")
    for method in ("GET", "DELETE"):
        get_row(f"digest-blob-{method}-{label}", f"/v2/{{repo}}/blobs/{digest}", (400, 404),
                None if label == "slash" else "DIGEST_INVALID",
    "" if label == "slash" else "digest", method=method)  # fmt: skip
    get_row(f"digest-referrers-{label}", f"/v2/{{repo}}/referrers/{digest}", (400, 404) if label == "slash" else 400,
            None if label == "slash" else "DIGEST_INVALID", "" if label == "slash" else "digest")  # fmt: skip

    def build_digest_put(context, digest=digest):
        return context.request("PUT", f"{context.session}?digest={digest}", (), b"x")

    def build_digest_post(context, digest=digest):
        return context.request("POST", f"/v2/{context.repo}/blobs/uploads/?digest={digest}", (), b"x")

    def build_digest_manifest(context, digest=digest):
        return context.request("PUT", f"/v2/{context.repo}/manifests/{digest}", TYPE, context.image.manifest)

    row(f"digest-put-{label}", build_digest_put, 400, "DIGEST_INVALID", "digest", method="PUT")
    row(f"digest-post-{label}", build_digest_post, 400, "DIGEST_INVALID", "digest", method="POST")
    if not loose:
        row(f"digest-manifest-{label}", build_digest_manifest, 400, "DIGEST_INVALID", "digest", method="PUT")
    # a mount that cannot be is an ordinary upload, whatever its digest looks like
    get_row(f"digest-mount-{label}", f"/v2/{{repo}}/blobs/uploads/?mount={digest}&from={{repo}}", (202, 400),
            method="POST",
            headers=[("Content-Length", 0)])  # fmt: skip

for algorithm in ("md5", "", "sha256:", "sha-256", "%00", "sha512%00"):
    get_row(f"digest-algorithm-{algorithm}", f"/v2/{{repo}}/blobs/uploads/?digest-algorithm={algorithm}", 400,
            None if "%00" in algorithm else "DIGEST_INVALID", method="POST",
            headers=[("Content-Length", 0)])  # fmt: skip

# ---- queries ----

get_row("query-bad-escape", "/v2/_catalog?n=%zz", 400)
get_row("query-nul", "/v2/_catalog?last=a%00b", 400)
get_row("query-many", "/v2/_catalog?" + "&".join(f"a{i}=b" for i in range(500)), (200, 400, 414))
get_row("query-long-last", "/v2/{repo}/tags/list?last=" + "a" * 3000, (200, 400, 414))
get_row("query-huge-n", "/v2/_catalog?n=99999999999999999999", 400, "PAGINATION_NUMBER_INVALID")
get_row("query-referrers-bad-last", f"/v2/{{repo}}/referrers/{ABSENT}?last=%2e%2e%2f", (200, 400))

# ---- ranges ----

for label, text in {
    "overflow": "bytes=99999999999999999999-", "overflow-end": "bytes=5-99999999999999999999",
    "negative": "bytes=--1", "reversed": "bytes=9-1", "words": "bytes=a-b",
    "no-dash": "bytes=5", "many": "bytes=" + ",".join("0-0" for _ in range(900)), "unit": "x=1-2", "empty": "",
    "control": "bytes=\x01", "beyond": "bytes=9999-",
}.items():  # fmt: skip
    get_row(f"range-{label}", "/v2/{repo}/blobs/{blob}", (200, 206, 416, *([400] if label == "control" else [])),
            headers=[("Range", text)])  # fmt: skip

for label, text in {
    "words": "a-b", "reversed": "199-100", "negative": "-100-150", "open": "100-", "suffix": "-100", "one": "100",
    "empty": "",
    "unit": "bytes=100-109", "space": "100 - 109", "hex": "0x64-0x6d",
    "overflow": "18446744073709551616-18446744073709551617",
    "overflow-end": "100-18446744073709551615", "plus": "+100-109", "three": "100-109-110", "comma": "100-109,110-119",
    "decimal": "100.0-109.0",
}.items():  # fmt: skip

    def build_content_range(context, text=text):
        return context.request("PATCH", context.session, [("Content-Range", text)], b"x" * 10)

    row(f"content-range-{label}", build_content_range, (400, 416), None, method="PATCH",
        then=lambda context, client: assert_session(context, client))  # fmt: skip

for label, text in {"gap": "101-110", "overlap": "99-108", "from-zero": "0-9", "far": "9999999999-9999999999"}.items():

    def build_out_of_order(context, text=text):
        return context.request("PATCH", context.session, [("Content-Range", text)], b"x" * 10)

    row(f"content-range-{label}", build_out_of_order, (400, 416) if label == "far" else 416,
        None if label == "far" else "BLOB_UPLOAD_INVALID", "" if label == "far" else "100", method="PATCH",
        then=lambda context, client: assert_session(context, client))  # fmt: skip

for label, text in {"longer": "100-200", "shorter": "100-104"}.items():

    def build_wrong_size(context, text=text):
        return context.request("PATCH", context.session, [("Content-Range", text)], b"x" * 10)

    row(f"size-{label}", build_wrong_size, 400, "SIZE_INVALID", "Content-Range", method="PATCH",
        then=lambda context, client: assert_session(context, client))  # fmt: skip


def assert_session(context, client):
    """The session is as it was, and finishes: at once, or when the server has seen that the bad client is gone."""
    assert client.get(context.session)["Range"] == "0-99"
    url = orlop.with_query(context.session, digest=sha256(context.session_bytes))
    orlop.wait_until(lambda: client.put(url).status == 201, timeout=10)


def build_wrong_digest(context):
    return context.request("PUT", f"{context.session}?digest={ABSENT}", (), b"x")


row("digest-not-of-the-bytes", build_wrong_digest, 400, "DIGEST_INVALID", "digest", method="PUT",
    then=lambda context, client: client.get(context.session).status == 404)  # fmt: skip

# ---- manifests ----

GOOD = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}


def manifest_row(label, body, status=400, code="MANIFEST_INVALID", message="manifest", media_type=OCI_MANIFEST):
    """body: bytes, or a function of the context."""

    def build(context, chunked=False):
        data = body(context) if callable(body) else body
        headers = [("Content-Type", media_type)] if media_type else []
        if not chunked:
            return context.request("PUT", f"/v2/{context.repo}/manifests/bad", headers, data)
        head = head_bytes(
            "PUT", f"/v2/{context.repo}/manifests/bad", context.host, [*headers, ("Transfer-Encoding", "chunked")]
        )
        return head + (chunk(data) if data else b"") + chunk(b"")

    def absent(context, client):
        assert client.get(f"/v2/{context.repo}/manifests/bad").status == 404

    row(f"manifest-{label}", build, status, code, message, method="PUT", then=absent)
    row(
        f"manifest-chunked-{label}",
        lambda context: build(context, True),
        status,
        code,
        message,
        method="PUT",
        then=absent,
    )


def changed(path, value):
    """The context's image manifest with one member changed; value Ellipsis: removed."""

    def build(context):
        document = json.loads(context.image.manifest)
        place = document
        for key in path[:-1]:
            place = place[key]
        if value is ...:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        return orlop.encode(document)

    return build


def spliced(before, after):
    """The context's image manifest with bytes replaced."""

    def build(context):
        assert before in context.image.manifest
        return context.image.manifest.replace(before, after, 1)

    return build


manifest_row("empty", b"")
manifest_row("white-space", b" \n\t ")
manifest_row("truncated", lambda context: context.image.manifest[:-1])
manifest_row("truncated-middle", lambda context: context.image.manifest[: len(context.image.manifest) // 2])
manifest_row("truncated-utf8", b'{"schemaVersion":2,"a":"\xc3')
manifest_row("trailing", lambda context: context.image.manifest + b"{}")
manifest_row("trailing-comma", spliced(b'"schemaVersion":2', b'"schemaVersion":2,'))
manifest_row("comment", lambda context: b"/* x */" + context.image.manifest)
manifest_row("nul", lambda context: context.image.manifest + b"\0")
manifest_row("bom", lambda context: b"\xef\xbb\xbf" + context.image.manifest)
manifest_row("utf16", lambda context: context.image.manifest.decode().encode("utf-16"))
manifest_row("not-utf8", spliced(b'"schemaVersion":2', b'"schemaVersion":2,"x":"\xff\xfe"'))
manifest_row("surrogate", spliced(b'"schemaVersion":2', b'"schemaVersion":2,"x":"\\ud800"'))
manifest_row(
    "escaped-nul-in-type",
    spliced(b'"mediaType":"application/vnd.oci.image.man', b'"mediaType":"a\\u0000pplication/vnd.oci.image.man'),
)
manifest_row("duplicate-keys", spliced(b'"schemaVersion":2', b'"schemaVersion":2,"schemaVersion":2'))
manifest_row("duplicate-keys-deep", spliced(b'"size":', b'"size":1,"size":'))
manifest_row("deep-lists", b'{"schemaVersion":2,"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
manifest_row("deep-maps", b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
manifest_row("array", b"[]")
manifest_row("text", b'"text"')
manifest_row("number", b"2")
manifest_row("null", b"null")
manifest_row("random", orlop.random_bytes(1000))
manifest_row("html", b"<html></html>")
manifest_row("schema-1", changed(["schemaVersion"], 1))
manifest_row("schema-3", changed(["schemaVersion"], 3))
manifest_row("schema-text", changed(["schemaVersion"], "2"))
manifest_row("schema-missing", changed(["schemaVersion"], ...))
manifest_row("schema-real", spliced(b'"schemaVersion":2', b'"schemaVersion":2.5'))
manifest_row("config-missing", changed(["config"], ...))
manifest_row("config-list", changed(["config"], []))
manifest_row("config-text", changed(["config"], ABSENT))
manifest_row("config-null", changed(["config"], None))
manifest_row("layers-map", changed(["layers"], {}))
manifest_row("layers-missing", changed(["layers"], ...))
manifest_row("layers-of-texts", changed(["layers"], [ABSENT]))
manifest_row("digest-number", changed(["config", "digest"], 5))
manifest_row("digest-bad", changed(["config", "digest"], "sha256:bad"))
manifest_row("digest-missing", changed(["config", "digest"], ...))
manifest_row("digest-traversal", changed(["config", "digest"], "sha256:../../../../orlop.json"))
manifest_row("size-text", changed(["config", "size"], "5"))
manifest_row("size-missing", changed(["config", "size"], ...))
manifest_row("size-negative", changed(["config", "size"], -1))
manifest_row("size-huge", spliced(b'"size":', b'"size":99999999999999999999999'))
manifest_row("size-real", changed(["config", "size"], 1.5))
manifest_row("size-exponent", spliced(b'"size":', b'"size":1e400,"x":'))
manifest_row("media-type-number", changed(["mediaType"], 5))
manifest_row("media-type-other", changed(["mediaType"], OCI_INDEX))
manifest_row("media-type-unknown", changed(["mediaType"], "application/x-unknown"))
manifest_row("type-unknown", changed(["mediaType"], ...), media_type="application/x-unknown")
manifest_row("layer-type-number", changed(["layers", 0, "mediaType"], 5))
manifest_row("subject-text", changed(["subject"], ABSENT))
manifest_row("subject-list", changed(["subject"], [ABSENT]))
manifest_row("subject-bad-digest", changed(["subject"], {"mediaType": OCI_MANIFEST, "digest": "x", "size": 5}))
manifest_row("subject-no-size", changed(["subject"], {"mediaType": OCI_MANIFEST, "digest": ABSENT}))
manifest_row("artifact-type-number", changed(["artifactType"], 5))
manifest_row("index-manifests-map", orlop.encode({"schemaVersion": 2, "manifests": {}}), media_type=OCI_INDEX)
manifest_row("index-manifests-missing", orlop.encode({"schemaVersion": 2}), media_type=OCI_INDEX)
manifest_row("index-as-image", orlop.index([]), media_type=OCI_MANIFEST)
manifest_row("missing-blob", changed(["config", "digest"], ABSENT), code="MANIFEST_BLOB_UNKNOWN", message=ABSENT)
manifest_row("too-big", b"{" + b" " * MANIFEST_LIMIT + b"}", status=413, message="")

# ---- sessions ----

for label, session in {
    "unknown": str(uuid.UUID(int=7)), "not-uuid": "session", "dots": "..", "long": "a" * 3000, "encoded-dots": "%2e%2e",
    "slash": "a%2Fb",
}.items():  # fmt: skip
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        strict = label in ("unknown", "not-uuid")
        get_row(f"session-{method}-{label}", f"/v2/{{repo}}/blobs/uploads/{session}?digest={ABSENT}",
                404 if strict else (400, 404, 405), "BLOB_UPLOAD_UNKNOWN" if strict else None, method=method,
                headers=[("Content-Length", 0)] if method in ("PATCH", "PUT") else ())  # fmt: skip

# ---- methods and routes ----

for method, target, status in (
    ("POST", "/v2/", 405), ("DELETE", "/v2/_catalog", 405), ("PUT", "/v2/{repo}/tags/list", 405),
    ("PATCH", "/v2/{repo}/blobs/{blob}", 405), ("PUT", "/v2/{repo}/blobs/{blob}", 405), ("DELETE",
    "/v2/{repo}/blobs/uploads/", 405),
    ("OPTIONS", "/v2/", (200, 204, 405)), ("TRACE", "/v2/", (400, 405, 501)), ("CONNECT", "/v2/", (400, 404, 405, 501)),
    ("get", "/v2/", (400, 405, 501)), ("BREW", "/v2/", (400, 405, 501)), ("G\x01T",
    "/v2/", (400, 405, 501)), ("A" * 3000, "/v2/", (400, 405, 414, 431, 501)),
):  # fmt: skip
    get_row(f"method-{method[:10]}-{target}", target, status, "UNSUPPORTED" if status == 405 else None, method=method,
            headers=[("Content-Length", 0)] if method in ("POST", "PUT",
    "PATCH") else (), closes=status != 405)  # fmt: skip

# ---- HTTP itself ----

REFUSED = (400, 408, 411, 413, 414, 431, 501, 505)


def http_row(label, data, status=REFUSED, **kw):
    """data: the request's bytes with {host}, {repo}, {session} left to fill in, or a function of the context."""

    def build(context):
        if callable(data):
            return data(context)
        text = data.replace("{host}", context.host).replace("{repo}", context.repo)
        if "{session}" in text:
            text = text.replace("{session}", context.session)
        return text.encode("latin-1")

    kw.setdefault("closes", True)
    row(f"http-{label}", build, status, **kw)


TAGS = "GET /v2/{repo}/tags/list"
http_row("version-0.9", "GET /v2/\r\n\r\n")
http_row("version-2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
http_row("version-3", f"{TAGS} HTTP/3.0\r\nHost: {{host}}\r\n\r\n", (200, *REFUSED))
http_row("version-1.10", f"{TAGS} HTTP/1.10\r\nHost: {{host}}\r\n\r\n", (200, *REFUSED))
http_row("version-junk", f"{TAGS} HTTP/x.y\r\nHost: {{host}}\r\n\r\n")
http_row("version-other", f"{TAGS} FTP/1.1\r\nHost: {{host}}\r\n\r\n")
http_row("version-missing-slash", f"{TAGS} HTTP1.1\r\nHost: {{host}}\r\n\r\n")
http_row("tls-hello", lambda context: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n")
http_row("zeros", lambda context: bytes(2000) + b"\r\n\r\n")
http_row("junk", lambda context: orlop.random_bytes(2000) + b"\r\n\r\n")
http_row("no-target", "GET\r\nHost: {host}\r\n\r\n")
http_row("relative-target", "GET v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n", (404, *REFUSED))
http_row("space-in-target", "GET /v2/ x HTTP/1.1\r\nHost: {host}\r\n\r\n", (404, *REFUSED))
http_row("no-host", f"{TAGS} HTTP/1.1\r\n\r\n")
http_row("two-hosts", f"{TAGS} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (200, *REFUSED))
http_row("header-without-colon", f"{TAGS} HTTP/1.1\r\nHost: {{host}}\r\nnonsense\r\n\r\n")
http_row("header-without-name", f"{TAGS} HTTP/1.1\r\nHost: {{host}}\r\n: x\r\n\r\n")
http_row("space-before-colon", f"{TAGS} HTTP/1.1\r\nHost: {{host}}\r\nAccept : x\r\n\r\n", (200, *REFUSED))
http_row("folded-header", f"{TAGS} HTTP/1.1\r\nHost: {{host}}\r\nAccept: a\r\n  b\r\n\r\n", (200, *REFUSED))
http_row("nul-in-header", f"{TAGS} HTTP/1.1\r\nHost: {{host}}\r\nAccept: a\x00b\r\n\r\n")
http_row("bare-cr", f"{TAGS} HTTP/1.1\r\nHost: {{host}}\r\nAccept: a\rb: c\r\n\r\n", (200, *REFUSED))
http_row("bare-lf", f"{TAGS} HTTP/1.1\nHost: {{host}}\n\n", (200, *REFUSED))
http_row(
    "absolute-target", "GET http://{host}/v2/{repo}/tags/list HTTP/1.1\r\nHost: {host}\r\n\r\n", (200, 404, *REFUSED)
)
http_row("authority-target", "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n", (404, 405, *REFUSED))
http_row("star-target", "OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n", (200, 204, 404, 405, *REFUSED))
http_row(
    "ten-thousand-headers",
    f"{TAGS} HTTP/1.1\r\nHost: {{host}}\r\n" + "".join(f"X-{i}: y\r\n" for i in range(10_000)) + "\r\n",
    (400, 413, 431),
)
http_row("huge-header", f"{TAGS} HTTP/1.1\r\nHost: {{host}}\r\nX: " + "y" * 1_000_000 + "\r\n\r\n", (400, 413, 431))
http_row(
    "huge-header-name", f"{TAGS} HTTP/1.1\r\nHost: {{host}}\r\n" + "y" * 1_000_000 + ": x\r\n\r\n", (400, 413, 431)
)
http_row("huge-target", "GET /v2/" + "a" * 1_000_000 + " HTTP/1.1\r\nHost: {host}\r\n\r\n", (400, 414, 431))
http_row(
    "huge-query", "GET /v2/_catalog?last=" + "a" * 1_000_000 + " HTTP/1.1\r\nHost: {host}\r\n\r\n", (400, 414, 431)
)
http_row("endless-empty-lines", "\r\n" * 100_000 + "GET /v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n", (200, *REFUSED))

PATCH = "PATCH {session} HTTP/1.1\r\nHost: {host}\r\n"


def framing_row(label, headers, body, status=(400, 411, 413, 501)):
    """A PATCH whose length is told wrongly; nothing of it may reach the session as if it were right."""

    def untouched(context, client):
        assert_session(context, client)

    http_row(label, PATCH + headers + "\r\n" + body, status, method="PATCH", then=untouched)


framing_row("length-twice-different", "Content-Length: 5\r\nContent-Length: 6\r\n", "abcdef")
framing_row("length-list", "Content-Length: 5, 6\r\n", "abcdef")
framing_row("length-negative", "Content-Length: -5\r\n", "abcde")
framing_row("length-plus", "Content-Length: +5\r\n", "abcde")
framing_row("length-hex", "Content-Length: 0x5\r\n", "abcde")
framing_row("length-words", "Content-Length: five\r\n", "abcde")
framing_row("length-overflow", "Content-Length: 99999999999999999999999\r\n", "abcde")
framing_row("length-space-inside", "Content-Length: 1 0\r\n", "abcdefghij")
framing_row("length-empty", "Content-Length: \r\n", "")
framing_row("length-and-chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "5\r\nabcde\r\n0\r\n\r\n")
framing_row("chunked-and-length", "Transfer-Encoding: chunked\r\nContent-Length: 50\r\n", "5\r\nabcde\r\n0\r\n\r\n")
framing_row("coding-unknown", "Transfer-Encoding: gzip\r\n", "abcde")
framing_row("coding-gzip-chunked", "Transfer-Encoding: gzip, chunked\r\n", "5\r\nabcde\r\n0\r\n\r\n")
framing_row("coding-chunked-gzip", "Transfer-Encoding: chunked, gzip\r\n", "5\r\nabcde\r\n0\r\n\r\n")
framing_row("coding-chunked-identity", "Transfer-Encoding: chunked, identity\r\n", "5\r\nabcde\r\n0\r\n\r\n")
framing_row("coding-xchunked", "Transfer-Encoding: xchunked\r\n", "5\r\nabcde\r\n0\r\n\r\n")
framing_row("coding-twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "5\r\nabcde\r\n0\r\n\r\n")
CHUNKED = "Transfer-Encoding: chunked\r\n"
framing_row("chunk-not-hex", CHUNKED, "xyz\r\nabc\r\n0\r\n\r\n")
framing_row("chunk-negative", CHUNKED, "-5\r\nabcde\r\n0\r\n\r\n")
framing_row("chunk-0x", CHUNKED, "0x5\r\nabcde\r\n0\r\n\r\n")
framing_row("chunk-empty-size", CHUNKED, "\r\nabcde\r\n0\r\n\r\n")
framing_row("chunk-overflow", CHUNKED, "fffffffffffffffff\r\nabcde\r\n0\r\n\r\n", (400, 413))
framing_row("chunk-size-endless", CHUNKED, "0" * 100_000, (400, 408, 413))
framing_row("chunk-extension-endless", CHUNKED, "5;" + "x" * 1_000_000, (400, 408, 413))


# Short, so that what is never going to be complete is given up while the test waits.
ARGS = ["--http-header-timeout", "3s", "--http-body-timeout", "3s", "--http-linger", "2s"]
ANSWER_TIMEOUT_S = 20


@pytest.fixture(scope="module")
def module_server():
    with orlop.Server(args=ARGS) as server:
        yield server
        server.assert_alive()
        server.assert_check_clean()


@pytest.fixture(scope="module")
def context(module_server):
    return Context(module_server)


@pytest.fixture
def client(module_server):
    with module_server.client() as client:
        yield client


def exchange(server, row, data):
    """Send the bytes, as far as the server takes them, and read the answer; None when it closes without one."""
    connection = Connection(server.address, timeout=ANSWER_TIMEOUT_S)
    with connection:
        try:
            connection.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # answered early: the answer must still be readable
        try:
            return connection.response(row.method)
        except (EOFError, ConnectionResetError, ValueError):
            assert row.closes, "the connection was closed without an answer"
            return None


def assert_unharmed(server, client):
    """Healthy, and a push and a pull work."""
    server.assert_alive()
    assert server.admin("/healthz").status == 200
    data = orlop.random_bytes(100)
    answer = client.post(f"/v2/unharmed/blobs/uploads/?digest={sha256(data)}", data)
    assert answer.status == 201
    assert client.get(answer["Location"]).body == data


@pytest.mark.parametrize("row", ROWS, ids=[row.name[:70] for row in ROWS])
def test_bad_input(server, context, client, row):
    context.next_row()
    answer = exchange(server, row, row.build(context))
    if answer is not None:
        assert answer.status in row.status, answer
        if answer.status >= 400 and row.method != "HEAD" and row.code:
            assert answer.code == row.code, answer
            assert row.message.lower() in answer.body.decode().lower(), answer
        if answer.status >= 400 and answer.get("Content-Type", "").startswith("application/json"):
            assert answer.json()["errors"][0]["code"]
        assert b"/tmp" not in answer.body and b"errno" not in answer.body, "an answer shows the server's insides"
    if row.then and (answer is None or answer.status not in (200, 201, 202, 204)):
        row.then(context, client)
    assert_unharmed(server, client)


def test_good_input_after_all_that(context, client):
    """Nothing of it left a trace: the image is whole, and there is nothing else."""
    assert client.pull_image(context.repo, "latest") == context.image.manifest
    assert client.tags(context.repo) == ["latest"]
    assert client.get("/v2/_catalog").json()["repositories"] == [context.repo]
