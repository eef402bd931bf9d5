"""Logging in with an htpasswd file (PING-2, checklist 17)."""

import base64
import crypt
import re

import orlop
import pytest

USER, PASSWORD = "alice", "päss:word"


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture(scope="module")
def htpasswd(module_dir):
    path = module_dir / "htpasswd"
    salt = crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << 5)
    hashed = [crypt.crypt(password, salt) for password in (PASSWORD, "bob")]
    path.write_text(f"# users\n{USER}:{hashed[0]}\nbob:{hashed[1]}\n")
    return path


@pytest.fixture(scope="module")
def module_server(htpasswd):
    with orlop.Server(args=["--auth-htpasswd", htpasswd]) as server:
        yield server
        server.assert_alive()


@pytest.fixture
def user(server):
    with server.client(headers=basic(USER, PASSWORD).items()) as client:
        yield client


def test_PING_2_challenge(client):
    answer = client.get("/v2/")
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    assert re.fullmatch(r'Basic realm="[^"]+"(, charset="UTF-8")?', answer["WWW-Authenticate"])
    assert len(answer.all("WWW-Authenticate")) == 1
    assert not re.search("bearer", answer["WWW-Authenticate"].lower())


def test_right_credentials(user, repo):
    assert user.get("/v2/").status == 200
    image = user.push_image(repo, "latest")
    assert user.pull_image(repo, "latest") == image.manifest


@pytest.mark.parametrize(
    "headers",
    [
        basic(USER, "wrong"), basic("nobody", PASSWORD), basic("", ""), basic(USER, ""), basic(USER, PASSWORD + "x"),
        {"Authorization": "Basic %%%"}, {"Authorization": "Basic"}, {"Authorization": "Bearer abc"},
        {"Authorization": "Basic " + base64.b64encode(b"nocolon").decode()}, basic(USER + "\0", PASSWORD),
        {"Authorization": "Basic " + "A" * 3000}, {},
    ],
)  # fmt: skip
def test_wrong_credentials(client, headers, repo):
    for method, target in (
        ("GET", "/v2/"),
        ("GET", f"/v2/{repo}/manifests/latest"),
        ("POST", f"/v2/{repo}/blobs/uploads/"),
        ("GET", "/v2/_catalog"),
        ("DELETE", f"/v2/{repo}/manifests/latest"),
        ("GET", f"/v2/{repo}/tags/list"),
    ):
        answer = client.request(method, target, headers=headers)
        assert answer.status == 401, (method, target, answer)
        assert "WWW-Authenticate" in answer


def test_refused_body_does_not_break_the_connection(client, repo):
    body = b"x" * 300_000
    for _ in range(3):
        assert client.post(f"/v2/{repo}/blobs/uploads/?digest={orlop.sha256(body)}", body).status == 401
        assert client.put(f"/v2/{repo}/manifests/x", body).status == 401


def test_remembered_password_is_fast(user):
    """The second request with the same credentials costs no password hash."""
    user.get("/v2/")
    import time

    start = time.monotonic()
    for _ in range(50):
        assert user.get("/v2/").status == 200
    assert time.monotonic() - start < 5


def test_anonymous_pull(new_server, htpasswd, repo):
    server = new_server(args=["--auth-htpasswd", htpasswd, "--auth-anonymous", "pull"])
    with server.client(headers=basic(USER, PASSWORD).items()) as user, server.client() as anyone:
        image = user.push_image(repo, "latest")
        assert anyone.get("/v2/").status == 401, "clients decide at the ping"
        assert anyone.pull_image(repo, "latest") == image.manifest
        assert anyone.get(f"/v2/{repo}/manifests/latest", basic("", "")).status == 200
        assert anyone.get(f"/v2/{repo}/manifests/latest", basic(USER, "wrong")).status == 401
        assert anyone.post(f"/v2/{repo}/blobs/uploads/").status == 401
        assert anyone.delete(f"/v2/{repo}/manifests/latest").status == 401


def test_file_is_read_again_on_sighup(new_server, htpasswd, work_dir):
    import shutil
    import signal

    own = work_dir / "htpasswd"
    shutil.copy(htpasswd, own)
    server = new_server(args=["--auth-htpasswd", own])
    with server.client() as client:
        assert client.get("/v2/", basic("bob", "bob")).status == 200
        own.write_text("".join(line for line in htpasswd.read_text().splitlines(True) if not line.startswith("bob")))
        server.process.send_signal(signal.SIGHUP)
        orlop.wait_until(lambda: client.get("/v2/", basic("bob", "bob")).status == 401)
        assert client.get("/v2/", basic(USER, PASSWORD)).status == 200
        own.write_text("not a password file\n")
        server.process.send_signal(signal.SIGHUP)
        assert client.get("/v2/", basic(USER, PASSWORD)).status == 200, "a bad file changes nothing"
    server.assert_alive()


def test_bad_file_is_named_at_start(work_dir):
    path = work_dir / "htpasswd"
    path.write_text("alice:$2y$05$short\n")
    result = orlop.run_cli(
        "serve", "--listen", "127.0.0.1:0", "--store", work_dir / "s", "--auth-htpasswd", path, timeout=20
    )
    assert result.returncode == 1
    assert str(path) in result.stderr and "1" in result.stderr
