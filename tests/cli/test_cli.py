"""The command line: help, exit codes, settings and their errors, signals, `orlop check`."""

import contextlib
import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import time

import orlop
import pytest
from orlop import ROOT, run_cli
from rawhttp import Connection

DONE, FAILED, USAGE = 0, 1, 2

COMMANDS = [(), ("serve",), ("check",), ("config",), ("config", "check"), ("config", "show"), ("config", "reference"), ("version",)]


def cli(*args, env=None, **kw):
    """Without the settings of the machine the tests run on."""
    return run_cli(*args, env={"ORLOP_CONFIG": "", **(env or {})}, **kw)


def assert_refused(result, *wanted, status=USAGE):
    assert result.returncode == status, result
    assert result.stdout == ""
    assert result.stderr.startswith("orlop: ")
    for text in wanted:
        assert text in result.stderr, result.stderr


def write_config(work_dir, text):
    path = work_dir / "orlop.yaml"
    path.write_text(text)
    return path


# ---- help and usage ----


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_everywhere(command, flag):
    result = cli(*command, flag)
    assert (result.returncode, result.stderr) == (DONE, "")
    assert result.stdout.startswith("Usage: " + " ".join(("orlop", *command)))
    assert max(map(len, result.stdout.splitlines())) <= 110


def test_help_is_given_whatever_else_is_wrong():
    result = cli("serve", "--http-workers", "none", "--nonsense", "--help")
    assert (result.returncode, result.stderr) == (DONE, "")


def test_help_tells_defaults_units_and_bounds():
    text = cli("serve", "--help").stdout
    assert "--http-listen, --listen ADDRESS:PORT" in text
    assert re.search(r"--http-header-timeout DURATION\n(.*\n)*? +Default 30s \(100ms to 1h\)\.", text)
    assert re.search(r"--http-header-bytes-max SIZE\n(.*\n)*? +Default 32KiB \(4KiB to 1MiB\)\.", text)
    for title in ("Serving clients", "Health and metrics", "Interrupted uploads", "Who may do what"):
        assert f"\n{title}\n" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "a command is missing: see 'orlop --help'"),
        (("config",), "a command is missing: see 'orlop config --help'"),
        (("srve",), "there is no command 'srve'; did you mean 'serve'?"),
        (("config", "shwo"), "there is no command 'shwo'; did you mean 'show'?"),
        (("frobnicate",), "there is no command 'frobnicate'\n"),
        (("serve", "--http-wrokers", "8"), "there is no flag --http-wrokers; did you mean --http-workers?"),
        (("serve", "--workers=8"), "there is no flag --workers; did you mean --http-workers?"),
        (("serve", "--lisen", ":80"), "there is no flag --lisen; did you mean --listen?"),
        (("check", "--jsn"), "there is no flag --jsn; did you mean --json?"),
        (("check", "--http-workers", "8"), "there is no flag --http-workers\n"),
        (("serve", "--zzzzzzzzzzzz"), "there is no flag --zzzzzzzzzzzz\n"),
        (("serve", "--listen"), "--listen needs a value"),
        (("check", "--json=yes"), "--json takes no value"),
        (("serve", "here"), "'here' is not expected here"),
        (("version", "now"), "'now' is not expected here"),
        (("serve", "--http-workers", "many"), "--http-workers: 'many' is not a number"),
        (("serve", "--listen", "5000"), "--http-listen: http.listen: it must be ADDRESS:PORT"),
        (("serve", "--admin-listen", "localhost"), "--admin-listen: admin.listen: it must be ADDRESS:PORT"),
        (("serve", "--s3-part-bytes", "1MiB"), "--s3-part-bytes: s3.part_bytes: S3 takes no parts under 5MiB but the last"),
        *(((command, "--store", store), "store.location: a bucket is s3://BUCKET[/PREFIX]")
          for command, store in (("serve", "s3:bucket"), ("serve", "S3://bucket"), ("check", "s3//bucket"),
                                 ("serve", "https://bucket/prefix"))),
        (("check", "--s3-addressing", "odd"), "'odd' is none of auto|path|virtual"),
        (("serve", "--http-tls-key", "k.pem"), "--http-tls-key: http.tls_key: it needs http.tls_certificate beside it"),
        (("serve", "--config", "/nonexistent.yaml"), "/nonexistent.yaml: the file cannot be read: No such file"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_usage(args, message):
    assert_refused(cli(*args), message)


def test_version():
    for args in (("version",), ("--version",)):
        result = cli(*args)
        assert result.returncode == DONE
        assert re.match(r"orlop \d+\.\d+\.\d+", result.stdout)
        assert "libmicrohttpd" in result.stdout


def test_output_that_cannot_be_written():
    with open("/dev/full", "w") as full:
        process = subprocess.run([orlop.binary(), "config", "reference"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == FAILED
    assert "the output cannot be written" in process.stderr


# ---- the store ----


def test_only_the_owner_can_look_into_a_new_store(work_dir):
    """Who may pull what is only for the registry to say. A directory that was there keeps its mode."""
    (work_dir / "made").mkdir(mode=0o755)
    for name, mode in (("new", 0o700), ("made", 0o755)):
        with orlop.Server(store=work_dir / name) as server, server.client() as client:
            client.push_image("a/b", "v1")
            upload = client.start_upload("a/b")
            assert client.patch(upload, b"some").status == 202
            assert stat.S_IMODE((work_dir / name).stat().st_mode) == mode
            below = [*(work_dir / name).rglob("*")]
            assert {stat.S_IMODE(path.stat().st_mode) & 0o007 for path in below} == {0}, below


# ---- settings ----


def test_misspelt_variable_is_not_passed_over_in_silence():
    result = cli("config", "check", env={"ORLOP_HTTP_WORKER": "8", "ORLOP_SERVICE_HOST": "10.0.0.1"})
    assert result.returncode == DONE
    said = "orlop: ORLOP_HTTP_WORKER is not a setting and is passed over; did you mean ORLOP_HTTP_WORKERS?\n"
    assert result.stderr == said


def test_messages_cannot_drive_the_terminal():
    assert "there is no command '?[31mred'" in cli("\x1b[31mred").stderr


def test_reference_page_is_current():
    result = cli("config", "reference")
    assert result.returncode == DONE
    assert result.stdout == (ROOT / "docs/settings.md").read_text(), "run `orlop config reference > docs/settings.md`"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("http:\n  workers: 8\n  wokers: 8\n", 3, "http.wokers: there is no such setting; did you mean http.workers?"),
        ("htpp:\n  workers: 8\n", 1, "htpp: there is no such section; did you mean http?"),
        ("http:\n  workers: eight\n", 2, "http.workers: 'eight' is not a number"),
        ("http:\n  workers: [8]\n", 2, "http.workers: it needs one value, not a list"),
        ("http:\n  workers: 0\n", 2, "http.workers: '0' is too small: the least is 1"),
        ("\n\nlog:\n  level: loud\n", 4, "log.level: 'loud' is none of debug|info|warn|error"),
        ("http:\n  drain: 30\n", 2, "http.drain: '30' has no unit: add ms, s, m, h or d"),
        ("registry:\n  deletes: perhaps\n", 2, "registry.deletes: 'perhaps' is neither true nor false"),
        ("http:\n  drain: 1s\n  drain: 2s\n", 3, "http.drain: it is set twice"),
        ("http: [\n", 2, "this is not YAML"),
        ("s3:\n  part_bytes: 1GiB\n", 2, "s3.part_bytes: a part may be a quarter of s3.part_memory_bytes_max"),
        ("http:\n  tls_certificate: x\n", 2, "http.tls_certificate: it needs http.tls_key beside it"),
    ],
)
def test_config_errors_name_file_line_and_key(work_dir, text, line, message):
    path = write_config(work_dir, text)
    for command in (("config", "check"), ("config", "show"), ("serve",)):
        assert_refused(cli(*command, "--config", path), f"orlop: {path}:{line}: {message}")


def test_config_check_of_the_users_file(work_dir):
    users = work_dir / "users"
    users.write_text("# all\nbob:$apr1$salt$hash\n")
    result = cli("config", "check", "--auth-htpasswd", users)
    assert_refused(result, f"{users}:2: the password of 'bob' is hashed by MD5", "htpasswd -B")
    users.write_text("")
    assert cli("config", "check", "--auth-htpasswd", users).returncode == DONE


def shown(result):
    """{section.key: (value, origin)} of `config show`."""
    assert result.returncode == DONE, result
    values, section = {}, None
    for line in result.stdout.splitlines():
        if match := re.fullmatch(r"(\w+):", line):
            section = match[1]
        elif match := re.fullmatch(r"  (\w+): (.*?) +# (.*)", line):
            values[f"{section}.{match[1]}"] = (match[2], match[3])
    return values


def test_config_show_tells_origins_and_precedence(work_dir):
    path = write_config(work_dir, "http:\n  workers: 1\n  network_threads: 1\n  drain: 1s\n")
    env = {"ORLOP_HTTP_WORKERS": "2", "ORLOP_HTTP_NETWORK_THREADS": "2"}
    values = shown(cli("config", "show", "--config", path, "--http-workers=3", "--listen", ":80", env=env))
    assert values["http.workers"] == ("3", "--http-workers")
    assert values["http.network_threads"] == ("2", "ORLOP_HTTP_NETWORK_THREADS")
    assert values["http.drain"] == ("1s", f"{path}:4")
    assert values["http.listen"] == ('":80"', "--http-listen")
    assert values["http.linger"] == ("5s", "default")
    assert values["store.location"] == ('"./data"', "default")


def test_config_show_can_be_read_again(work_dir):
    first = cli("config", "show", "--store", '/a "b" # c', "--http-drain", "90s")
    second = shown(cli("config", "show", "--config", write_config(work_dir, first.stdout)))
    assert {key: value for key, (value, _) in second.items()} == {key: value for key, (value, _) in shown(first).items()}


def test_config_file_by_variable(work_dir):
    path = write_config(work_dir, "http:\n  workers: 7\n")
    assert shown(cli("config", "show", env={"ORLOP_CONFIG": str(path)}))["http.workers"] == ("7", f"{path}:2")
    assert shown(cli("config", "show", "--config", "", env={"ORLOP_CONFIG": str(path)}))["http.workers"][1] == "default"


def test_environment_errors_name_the_variable():
    assert_refused(cli("config", "check", env={"ORLOP_HTTP_WORKERS": "x"}), "ORLOP_HTTP_WORKERS: 'x' is not a number")


def test_config_check_says_that_all_is_right(work_dir):
    path = write_config(work_dir, "http:\n  workers: 7\nlog:\n")
    result = cli("config", "check", "--config", path)
    assert (result.returncode, result.stdout) == (DONE, f"The settings are right ({path}).\n")


# ---- serve ----


def test_second_server_on_the_same_store_is_refused(new_server):
    first = new_server()
    result = cli("serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--store", first.store)
    assert_refused(result, f"{first.store} is in use by", str(first.pid), socket.gethostname(), first.host, status=FAILED)
    first.assert_alive()


def test_port_in_use(new_server, work_dir):
    first = new_server()
    result = cli("serve", "--listen", first.host, "--admin-listen", "", "--store", work_dir / "other")
    assert_refused(result, f"cannot listen on '{first.host}': Address already in use", status=FAILED)


def test_store_that_cannot_be_made(work_dir):
    (work_dir / "file").write_text("")
    result = cli("serve", "--listen", "127.0.0.1:0", "--admin-listen", "", "--store", work_dir / "file")
    assert_refused(result, str(work_dir / "file"), status=FAILED)


def test_start_is_quick(work_dir):
    """From exec to the first answer, a release build, the best of some."""
    program = orlop.release_binary()
    if not os.path.exists(program):
        pytest.skip("there is no release build")
    best = 60
    for attempt in range(8):
        server = orlop.Server(store=work_dir / f"s{attempt}", program=program)
        try:
            start = time.monotonic()
            server.start()
            best = min(best, time.monotonic() - start)
            server.stop()
        finally:
            server.discard()
    assert best <= 0.05


def wait_for(condition, timeout=20):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def hang_up(server, message="settings read again"):
    """SIGHUP, and wait until it was heard."""
    before = len(server.log_lines(message))
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(server.log_lines(message)) > before)


def test_SIGHUP_takes_settings_over(new_server, work_dir):
    path = write_config(work_dir, "registry:\n  deletes: true\nlog:\n  level: info\nhttp:\n  workers: 8\n")
    server = new_server(args=["--config", path])
    with server.client() as client:
        repo = orlop.new_repo()
        client.push_image(repo, "a")
        client.push_image(repo, "b")
        assert client.delete(f"/v2/{repo}/manifests/a").status == 202

        write_config(work_dir, "registry:\n  deletes: false\nlog:\n  level: debug\nhttp:\n  workers: 9\n")
        hang_up(server)
        assert client.delete(f"/v2/{repo}/manifests/b").status == 405
        taken = {line["setting"] for line in server.log_lines("a changed setting was taken over")}
        assert taken == {"registry.deletes", "log.level"}
        restart = [line["setting"] for line in server.log_lines("a changed setting needs a restart")]
        assert restart == ["http.workers"]

        # A wrong file changes nothing.
        write_config(work_dir, "registry:\n  deletes: maybe\n")
        hang_up(server, "the settings are wrong, the old ones stay")
        line = server.log_lines("the settings are wrong, the old ones stay")[-1]
        assert line["reason"] == f"{path}:2: registry.deletes: 'maybe' is neither true nor false"
        assert client.delete(f"/v2/{repo}/manifests/b").status == 405

        write_config(work_dir, "")
        hang_up(server)
        assert client.delete(f"/v2/{repo}/manifests/b").status == 202


def test_log_level_keeps_lines_out(new_server):
    server = new_server(args=["--log-level", "error"])
    with server.client() as client:
        assert client.get("/v2/").status == 200
    server.stop()
    assert server.log() == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signal_lets_running_requests_end(new_server, number):
    server = new_server()
    data = orlop.random_bytes(1 << 20)
    with server.client() as client:
        url = client.start_upload("drain/r")
    with Connection(server.address) as connection:
        path = orlop.with_query(url, digest=orlop.sha256(data))
        connection.send(f"PUT {path} HTTP/1.1\r\nHost: o\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        connection.send(data[:1000])
        time.sleep(0.3)
        server.process.send_signal(number)
        wait_for(lambda: server.log_lines("ending: running requests may finish"))
        time.sleep(0.2)
        assert server.process.poll() is None
        connection.send(data[1000:])
        assert connection.response().status == 201
    assert server.wait_dead() == 0
    assert server.log_lines("ended")


def test_second_signal_ends_at_once(new_server):
    server = new_server()
    with server.client() as client:
        url = client.start_upload("drain/r")
    with Connection(server.address) as connection:
        connection.send(f"PATCH {url} HTTP/1.1\r\nHost: o\r\nContent-Length: 1000\r\n\r\nx".encode())
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.log_lines("ending: running requests may finish"))
        server.process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        assert server.wait_dead() == FAILED
        assert time.monotonic() - start < 5


def test_idle_uploads_are_removed(new_server):
    server = new_server(args=["--uploads-idle", "1s", "--uploads-janitor-interval", "100ms"])
    with server.client() as client:
        url = client.start_upload("idle/r")
        assert client.get(url).status == 204
        wait_for(lambda: client.get(url).status == 404)
    wait_for(lambda: sum(line["uploads"] for line in server.log_lines("idle uploads removed")) == 1)


def read_terminal(fd, pattern, timeout=20):
    """What a program prints to its terminal until the pattern is there (or it ends)."""
    text, deadline = "", time.monotonic() + timeout
    while not re.search(pattern, text) and time.monotonic() < deadline:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                text += os.read(fd, 65536).decode()
            except OSError:
                break
    return text


@contextlib.contextmanager
def on_terminal(*args):
    ours, theirs = pty.openpty()
    process = subprocess.Popen([orlop.binary(), *map(str, args)], stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_greeting_on_a_terminal(work_dir):
    port = orlop.free_port()
    args = ("serve", "--listen", f"127.0.0.1:{port}", "--admin-listen", "", "--store", work_dir / "s")
    with on_terminal(*args) as (process, terminal):
        text = read_terminal(terminal, r"info +serving")
        assert f"serves on http://127.0.0.1:{port} and keeps its data in {work_dir / 's'}" in text
        assert f"docker push 127.0.0.1:{port}/hello-world" in text
        assert re.search(r"T[\d:.]+Z info +serving version=", text)  # text, not JSON
        process.send_signal(signal.SIGINT)
        read_terminal(terminal, r"info +ended")
        assert process.wait(10) == 0


# ---- check ----


@pytest.fixture
def filled_store(new_server, work_dir):
    server = new_server(store=work_dir / "store")
    with server.client() as client:
        client.push_image("check/r", "latest", layers=2, layer_bytes=100_000)
    server.stop()
    return pathlib.Path(server.store)


def largest_blob(store):
    return max((store / "blobs").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)


def test_check_of_a_sound_store(filled_store):
    result = cli("check", "--store", filled_store)
    assert (result.returncode, result.stderr) == (DONE, "")
    assert re.search(r"^Verified 3 blobs \(.*\), 1 manifests, 1 tags", result.stdout)
    assert result.stdout.endswith("No errors.\n")
    quick = cli("check", "--store", filled_store, "--quick")
    assert quick.returncode == DONE and quick.stdout.startswith("Looked at 3 blobs")


def test_check_report_in_json(filled_store):
    result = cli("check", f"--store={filled_store}", "--json")
    report = json.loads(result.stdout)
    assert (result.returncode, report["findings"], report["complete"], report["quick"]) == (DONE, [], True, False)
    assert report["store"] == str(filled_store)
    assert (report["totals"]["blobs"], report["totals"]["errors"]) == (3, 0)


def test_check_finds_damage(filled_store):
    blob = largest_blob(filled_store)
    data = bytearray(blob.read_bytes())
    data[50_000] ^= 1
    blob.write_bytes(data)
    result = cli("check", "--store", filled_store)
    assert result.returncode == FAILED
    assert re.search(rf"^error .*{blob.name}", result.stdout, re.MULTILINE)
    assert result.stdout.endswith("1 error: the store is damaged.\n")
    report = json.loads(cli("check", "--store", filled_store, "--json").stdout)
    assert [(item["severity"], blob.name in item["key"]) for item in report["findings"]] == [("error", True)]
    # Sizes alone do not show it.
    assert cli("check", "--store", filled_store, "--quick").returncode == DONE
    blob.write_bytes(data[:-1])
    assert cli("check", "--store", filled_store, "--quick").returncode == FAILED


def test_check_without_a_store(work_dir):
    assert_refused(cli("check", "--store", work_dir / "none"), "holds no store", status=FAILED)
    assert not (work_dir / "none").exists()
    (work_dir / "empty").mkdir()
    assert_refused(cli("check", "--store", work_dir / "empty"), "holds no store", status=FAILED)
    assert list((work_dir / "empty").iterdir()) == []


def test_check_beside_a_server(new_server):
    server = new_server()
    with server.client() as client:
        client.push_image("beside/r", "latest")
        assert cli("check", "--store", server.store).returncode == DONE


def test_check_shows_progress_on_a_terminal(filled_store):
    with on_terminal("check", "--store", filled_store) as (process, terminal):
        text = read_terminal(terminal, r"No errors\.")
        assert process.wait(10) == 0
    assert "No errors." in text
