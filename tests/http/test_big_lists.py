"""
Tags and catalog of 100,000 entries on a local store: a page costs what the page costs (asserted by counting), changes
show at once, memory is bounded; and deleting a manifest costs its own tags.
"""

import collections
import os
import pathlib
import re
import subprocess
import time

import orlop
import pytest
from orlop import next_link

pytestmark = pytest.mark.skipif(os.environ.get("ORLOP_TEST_STORE") == "s3", reason="about directories")

MANY = 100_000
READ_FOR_EACH = 100  # LOCAL_INDEX_NAMES_MIN: a directory with no more names is read for each page
LIST_MEMORY_KIB_MAX = 64 * 1024  # LOCAL_INDEX_BYTES_MAX
OTHER_MEMORY_KIB_MAX = 16 * 1024  # pages and their answers, in some of the workers at least once
RELEASE = orlop.release_binary()


def folder_of(server, *parts):
    return pathlib.Path(server.store, *parts)


def make_files(folder, names, content=b""):
    """What the server would have written, while it is not running."""
    folder.mkdir(parents=True, exist_ok=True)
    folder_fd = os.open(folder, os.O_RDONLY)
    for name in names:
        file = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder_fd)
        if content:
            os.write(file, content)
        os.close(file)
    os.close(folder_fd)


def add_tags(server, repo, names):
    """Tags beside the one that repo has, pointing where it does."""
    folder = folder_of(server, "repos", repo, "_tags")
    (model,) = folder.iterdir()
    make_files(folder, names, model.read_bytes())


def lists(server):
    """(pages from memory, directories read) so far"""
    metrics = server.metrics()
    return tuple(int(metrics[f'orlop_local_lists_total{{source="{source}"}}']) for source in ("memory", "directory"))


def follow(client, target, key):
    """All entries of a list in pages, and the number of pages."""
    entries, pages = [], 0
    while target:
        answer = client.get(target)
        assert answer.status == 200, answer
        entries += answer.json()[key]
        pages += 1
        target = next_link(answer)
    return entries, pages


@pytest.fixture(scope="module")
def big():
    """A server whose repository "big" has MANY tags "t<number>", with gaps."""
    with orlop.Server() as server:
        with server.client() as client:
            client.push_image("big", "first")
            client.push_image("small", "first")
        server.stop()
        add_tags(server, "big", [tag_of(number) for number in range(MANY - 1)])
        add_tags(server, "small", [tag_of(number) for number in range(READ_FOR_EACH - 1)])
        yield server.start()
        server.assert_alive()


def tag_of(number):
    return f"t{number:05}.0"


@pytest.mark.deadline(180)
def test_a_tag_page_reads_no_directory(big):
    """The first page reads it; no other does, wherever it is and however large."""
    with big.client(timeout=120) as client:
        assert client.tags("big", "?n=1") == ["first"]
        before = lists(big)
        for number in (0, 1, MANY // 2, MANY - 50):
            page = client.tags("big", f"?n=100&last={tag_of(number)}-need-not-exist")
            assert page == [tag_of(at) for at in range(number + 1, min(number + 101, MANY - 1))]
        entries, pages = follow(client, "/v2/big/tags/list?n=1000", "tags")
        assert entries == ["first", *(tag_of(number) for number in range(MANY - 1))]
        assert pages == MANY // 1000
        assert len(follow(client, "/v2/big/tags/list?n=10000", "tags")[0]) == MANY
        assert client.tags("big", "?n=0") == []
        after = lists(big)
    assert (after[0] - before[0], after[1] - before[1]) == (4 + 100 + 10 + 1, 0)


@pytest.mark.deadline(180)
def test_a_small_directory_is_read(big):
    """What the other tests' counter says when there is something to count."""
    with big.client(timeout=120) as client:
        before = lists(big)
        assert client.tags("small", "?n=100") == ["first", *(tag_of(number) for number in range(99))]
        after = lists(big)
    assert (after[0] - before[0], after[1] - before[1]) == (0, 1)


@pytest.mark.deadline(180)
def test_changes_show_at_once(big):
    with big.client(timeout=120) as client:
        manifest = client.get("/v2/big/manifests/first")
        assert client.tags("big", f"?n=1&last={tag_of(70)}") == [tag_of(71)]
        before = lists(big)
        new = tag_of(70) + "-new"
        client.push_manifest("big", new, manifest.body, manifest["Content-Type"])
        assert client.tags("big", f"?n=2&last={tag_of(70)}") == [new, tag_of(71)]
        client.push_manifest("big", new, manifest.body, manifest["Content-Type"])
        assert client.tags("big", f"?n=2&last={tag_of(70)}") == [new, tag_of(71)]
        for tag in (new, tag_of(71)):
            assert client.delete(f"/v2/big/manifests/{tag}").status == 202
        assert client.tags("big", f"?n=2&last={tag_of(70)}") == [tag_of(72), tag_of(73)]
        assert lists(big)[1] == before[1]


def repository_of(number):
    """Some of each form; in byte order of the number."""
    return f"r{number:06}" + ("", "/app", ".io/app", "-x/y_z")[number % 4]


def escape(name):
    return name.replace(".", "..").replace("/", ".")


@pytest.mark.deadline(180)
def test_a_catalog_page_reads_no_directory(new_server):
    server = new_server()
    names = sorted(repository_of(number) for number in range(MANY))
    server.stop()
    make_files(folder_of(server, "names"), map(escape, names))
    server.start()
    with server.client(timeout=120) as client:
        assert client.get("/v2/_catalog?n=1").json()["repositories"] == names[:1]
        before = lists(server)
        entries, pages = follow(client, "/v2/_catalog?n=1000", "repositories")
        assert entries == names
        assert pages == MANY // 1000
        for number in (0, 1, MANY // 2, MANY - 50):
            page = client.get(f"/v2/_catalog?n=100&last={names[number]}").json()["repositories"]
            assert page == names[number + 1 : number + 101]
        client.push_image("r000001.a/new", "v1")
        page = client.get("/v2/_catalog?n=2&last=r000001.").json()["repositories"]
        assert page == ["r000001.a/new", "r000001/app"]
        after = lists(server)
        assert (after[0] - before[0], after[1] - before[1]) == (100 + 4 + 1, 0)


@pytest.mark.deadline(300)
def test_memory(new_server):
    """100,000 of the longest tags and 100,000 repositories, page by page: what is remembered has a limit."""
    server = new_server(program=RELEASE)
    with server.client() as client:
        client.push_image("big", "first")
    server.stop()
    add_tags(server, "big", [f"{number:06}".ljust(128, "x") for number in range(MANY)])
    make_files(folder_of(server, "names"), (f"{number:06}".ljust(250, "x") for number in range(MANY)))
    server.start()
    with server.client(timeout=120) as client:
        client.tags("big", "?n=1&last=none")
        before = server.proc_status_kib("VmRSS")
        for path, key in (("/v2/big/tags/list", "tags"), ("/v2/_catalog", "repositories")) * 2:
            entries, pages = follow(client, f"{path}?n=1000", key)
            assert (len(entries), pages) == (MANY + 1, 101)
            assert server.metrics()["orlop_local_list_bytes"] <= LIST_MEMORY_KIB_MAX * 1024
    growth = server.proc_status_kib("VmHWM") - before
    print(f"\ngrew by {growth} KiB")
    assert growth <= LIST_MEMORY_KIB_MAX + OTHER_MEMORY_KIB_MAX


# ---- deletes ----


def traced(server, trace, action):
    """How often the server asks the file system for each thing while action runs."""
    try:
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-e", "trace=%file,fsync,fdatasync,getdents64", "-o", trace, "-p", str(server.pid)],
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    try:
        status = pathlib.Path(f"/proc/{server.pid}/status")
        orlop.wait_until(lambda: "TracerPid:\t0\n" not in status.read_text() or tracer.poll() is not None)
        if tracer.poll() is not None:
            pytest.skip(f"cannot trace here: {tracer.stderr.read().decode().strip()}")
        time.sleep(0.2)  # strace attaches thread by thread
        action()
    finally:
        tracer.terminate()
        tracer.wait()
    # malloc looks into /sys when it likes
    return collections.Counter(re.findall(r"^\d+ +(\w+)\((?!AT_FDCWD, \"/sys/)", trace.read_text(), re.MULTILINE))


@pytest.mark.deadline(180)
@pytest.mark.parametrize("listed", [False, True], ids=["", "listed"])
def test_deleting_a_manifest_costs_its_own_tags(new_server, work_dir, listed):
    """Three tags of 10 or of 10,000, with the names in memory or not: the same calls."""
    server = new_server(program=RELEASE)
    images = {}
    for repo, total in (("small", 10), ("big", 10_000)):
        with server.client() as client:
            client.push_image(repo, "other")
        server.stop()
        add_tags(server, repo, [tag_of(number) for number in range(total - 4)])
        server.start()
        with server.client() as client:
            images[repo] = client.push_image(repo, "one")
            for tag in ("two", "three"):
                client.push_manifest(repo, tag, images[repo].manifest)
    server.restart()  # nothing is cached
    counts = {}
    with server.client(timeout=120) as client:
        for repo, image in images.items():
            if listed:
                client.tags(repo, "?n=1")

            def delete(repo=repo, image=image):
                assert client.delete(f"/v2/{repo}/manifests/{image.digest}").status == 202

            counts[repo] = traced(server, work_dir / "trace", delete)
            assert client.get(f"/v2/{repo}/manifests/two").status == 404
            assert "two" not in client.tags(repo, "?n=10000")
        assert counts["small"]["unlinkat"] + counts["small"]["unlink"] >= 3 + 3 + 1, "the trace sees the deletes"
        if listed:  # to look whether the three are gone
            counts["big"]["newfstatat"] -= 3
        assert counts["big"] == counts["small"]
