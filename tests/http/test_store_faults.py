"""The store's own troubles: full, read-only, gone, held by another server, damaged."""

import errno
import json
import os
import pathlib
import shutil

import fs
import orlop
import pytest
from orlop import sha256, with_query

MIB = 1 << 20


@pytest.fixture
def disk():
    """A tmpfs of 24 MiB."""
    with fs.tmpfs(24) as path:
        yield path


def fill(path, leave=0):
    """A file that takes all room but some; its path."""
    filler = path / "filler"
    stats = os.statvfs(path)
    left = stats.f_bavail * stats.f_frsize - leave
    with open(filler, "wb", buffering=0) as out:
        try:
            while left > 0 or leave == 0:
                left -= out.write(b"\0" * min(max(left, 4096), 65536))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return filler


def assert_works(client, repo=None):
    repo = repo or orlop.new_repo()
    image = client.push_image(repo, "works")
    assert client.pull_image(repo, "works") == image.manifest
    assert client.delete(f"/v2/{repo}/manifests/{image.digest}").status == 202


def assert_clear_error(answer, statuses):
    assert answer.status in statuses, answer
    assert answer.code == "UNAVAILABLE", answer
    assert answer.message
    assert b"/tmp" not in answer.body, "paths stay in the log"


# ---- full ----


def test_full_while_a_blob_arrives(new_server, disk, repo):
    server = new_server(disk / "store")
    with server.client() as client:
        image = client.push_image(repo, "before")
        location = client.start_upload(repo)
        data = orlop.random_bytes(40 * MIB)
        answer = client.patch(location, data)
        assert_clear_error(answer, (507,))
        assert "full" in answer.message
        # the session stands where it stood or further, and never claims what is not there
        status = client.get(location)
        assert status.status in (204, 404)
        for target in (f"/v2/{repo}/blobs/uploads/?digest={sha256(data)}",):
            assert_clear_error(client.post(target, data), (507,))
        assert client.head(f"/v2/{repo}/blobs/{sha256(data)}").status == 404
        # pulls go on
        assert client.pull_image(repo, "before") == image.manifest
        # the room the failed uploads took is there again once they are cancelled
        if status.status == 204:
            assert client.delete(location).status == 204
        assert_works(client)
    server.assert_check_clean()


def test_full_to_the_last_byte(new_server, disk, repo):
    server = new_server(disk / "store")
    with server.client() as client:
        image = client.push_image(repo, "before")
        other = orlop.artifact("application/x", image.descriptor(), {"fill": "x" * 5000})
        client.push_blob(repo, b"{}")
        location = client.start_upload(repo)
        filler = fill(disk)
        big = orlop.random_bytes(200_000)
        refused = [
            client.put(f"/v2/{repo}/manifests/during", other, {"Content-Type": orlop.OCI_MANIFEST}),
            client.patch(location, big),
            client.post(f"/v2/{repo}/blobs/uploads/?digest={sha256(big)}", big),
            client.post(f"/v2/{repo}/blobs/uploads/"),
        ]
        for answer in refused:
            assert_clear_error(answer, (507,))
        assert client.get(f"/v2/{repo}/manifests/during").status == 404
        assert client.get(f"/v2/{repo}/manifests/{sha256(other)}").status == 404
        assert client.referrers(repo, image.digest) == []
        assert client.tags(repo) == ["before"]
        assert client.pull_image(repo, "before") == image.manifest
        orlop.wait_until(lambda: server.admin("/readyz").status == 503)
        assert server.admin("/healthz").status == 200
        filler.unlink()
        orlop.wait_until(lambda: server.admin("/readyz").status == 200)
        assert client.put(f"/v2/{repo}/manifests/during", other, {"Content-Type": orlop.OCI_MANIFEST}).status == 201
        assert len(client.referrers(repo, image.digest)) == 1
        data = orlop.random_bytes(100_000)
        assert client.put(with_query(location, digest=sha256(data)), data).status in (201, 404)
        assert_works(client)
    server.assert_check_clean()


def test_full_at_every_size_of_the_last_room(new_server, disk, repo):
    """With a little room left a push fails somewhere in its middle; whatever it was, nothing half is visible."""
    server = new_server(disk / "store")
    with server.client() as client:
        client.push_blob(repo, b"{}")
        for room in range(0, 64 * 1024, 4096):
            data = orlop.random_bytes(20_000)
            body = orlop.artifact("application/x", annotations={"fill": "y" * 20_000, "room": str(room)})
            filler = fill(disk, leave=room + 1)
            pushed = client.post(f"/v2/{repo}/blobs/uploads/?digest={sha256(data)}", data).status
            tagged = client.put(f"/v2/{repo}/manifests/r{room}", body, {"Content-Type": orlop.OCI_MANIFEST}).status
            filler.unlink()
            assert pushed in (201, 507) and tagged in (201, 507)
            blob = client.get(f"/v2/{repo}/blobs/{sha256(data)}")
            assert (blob.status == 200 and blob.body == data) if pushed == 201 else blob.status == 404
            seen = client.get(f"/v2/{repo}/manifests/r{room}")
            assert (seen.status == 200 and seen.body == body) if tagged == 201 else seen.status == 404
            listed = client.get(f"/v2/{repo}/tags/list")
            assert (listed.status == 200 and f"r{room}" in listed.json()["tags"]) == (tagged == 201)
        assert_works(client)
    server.assert_check_clean()


# ---- read-only ----


def test_file_system_turns_read_only(new_server, repo):
    with fs.ext4(64) as disk:
        server = new_server(disk.mount_point / "store")
        with server.client() as client:
            image = client.push_image(repo, "before")
            location = client.start_upload(repo)
            try:
                disk.fail_to_read_only()
            except OSError as error:
                pytest.skip(f"cannot make a file system fail here: {error}")
            data = orlop.random_bytes(100_000)
            for answer in (
                client.post(f"/v2/{repo}/blobs/uploads/?digest={sha256(data)}", data),
                client.patch(location, data),
                client.post(f"/v2/{repo}/blobs/uploads/"),
                client.put(f"/v2/{repo}/manifests/x", image.manifest, {"Content-Type": orlop.OCI_MANIFEST}),
                client.delete(f"/v2/{repo}/manifests/{image.digest}"),
                client.delete(f"/v2/{repo}/blobs/{sha256(image.config)}"),
            ):
                assert_clear_error(answer, (503,))
            assert client.pull_image(repo, "before") == image.manifest
            assert client.tags(repo) == ["before"]
            orlop.wait_until(lambda: server.admin("/readyz").status == 503)
            server.assert_alive()
        server.stop()


def test_directory_without_permission(new_server, disk_dir, repo):
    """An immutable directory, as an administrator or a broken mount makes it; once it is writable, work goes on."""
    fs.need_root()
    store = disk_dir / "store"
    server = new_server(store)
    with server.client() as client:
        image = client.push_image(repo, "before")
        folders = [str(path) for path in (store, *store.rglob("*")) if path.is_dir()]
        try:
            fs.run("chattr", "+i", *folders)
        except Exception as error:
            pytest.skip(f"cannot make directories immutable here: {error}")
        try:
            data = orlop.random_bytes(1000)
            for answer in (
                client.post(f"/v2/{repo}/blobs/uploads/?digest={sha256(data)}", data),
                client.put(f"/v2/{repo}/manifests/x", image.manifest, {"Content-Type": orlop.OCI_MANIFEST}),
                client.delete(f"/v2/{repo}/manifests/before"),
            ):
                assert_clear_error(answer, (503,))
            assert client.pull_image(repo, "before") == image.manifest
            orlop.wait_until(lambda: server.admin("/readyz").status == 503)
        finally:
            fs.run("chattr", "-i", *folders)
        orlop.wait_until(lambda: server.admin("/readyz").status == 200)
        assert_works(client, repo)
    server.assert_check_clean()


# ---- gone ----


def assert_gone(server, client, repo, image):
    """Every request that needs the store says so; none says that something does not exist."""
    data = orlop.random_bytes(1000)
    orlop.wait_until(lambda: server.admin("/readyz").status == 503)
    assert server.admin("/healthz").status == 200
    for answer in (
        client.post(f"/v2/{repo}/blobs/uploads/"),
        client.post(f"/v2/{repo}/blobs/uploads/?digest={sha256(data)}", data),
        client.put(f"/v2/{repo}/manifests/x", image.manifest, {"Content-Type": orlop.OCI_MANIFEST}),
        client.get(f"/v2/{repo}/manifests/never-asked-before"),
        client.get("/v2/never/asked/before/tags/list"),
        client.get(f"/v2/{repo}/blobs/sha256:{'1' * 64}"),
        client.delete(f"/v2/{repo}/manifests/latest"),
    ):
        assert_clear_error(answer, (503,))
    # lists: as they were (the directory may still be open under another name), or an error; never empty
    for target, key in (("/v2/_catalog", "repositories"), (f"/v2/{repo}/tags/list", "tags")):
        answer = client.get(target)
        if answer.status == 200:
            assert answer.json()[key], "a vanished store was taken for an empty one"
        else:
            assert_clear_error(answer, (503,))
    server.assert_alive()


def test_directory_moved_away_and_back(new_server, work_dir, repo):
    store = work_dir / "store"
    server = new_server(store)
    with server.client() as client:
        image = client.push_image(repo, "latest")
        location = client.start_upload(repo)
        os.rename(store, work_dir / "elsewhere")
        assert_gone(server, client, repo, image)
        assert not store.exists(), "a new tree was made where the store had been"
        os.rename(work_dir / "elsewhere", store)
        orlop.wait_until(lambda: server.admin("/readyz").status == 200)
        assert client.pull_image(repo, "latest") == image.manifest
        data = orlop.random_bytes(1000)
        assert client.put(with_query(location, digest=sha256(data)), data).status == 201
        assert_works(client)
    server.assert_check_clean()


def test_another_directory_in_its_place(new_server, work_dir, repo):
    """An empty directory or another store appears under the name: nothing is written there."""
    store = work_dir / "store"
    server = new_server(store)
    with server.client() as client:
        image = client.push_image(repo, "latest")
        os.rename(store, work_dir / "elsewhere")
        store.mkdir()
        assert_gone(server, client, repo, image)
        assert list(store.iterdir()) == []
        store.rmdir()
        os.rename(work_dir / "elsewhere", store)
        orlop.wait_until(lambda: server.admin("/readyz").status == 200)
        assert_works(client)


def test_directory_removed_and_restored(new_server, work_dir, repo):
    """rm -rf, then a copy from the backup: the server goes on with it, without a restart."""
    store = work_dir / "store"
    server = new_server(store)
    with server.client() as client:
        image = client.push_image(repo, "latest")
        shutil.copytree(store, work_dir / "backup")
        shutil.rmtree(store)
        assert_gone(server, client, repo, image)
        assert not store.exists()
        os.rename(work_dir / "backup", store)
        orlop.wait_until(lambda: server.admin("/readyz").status == 200)
        assert client.pull_image(repo, "latest") == image.manifest
        assert_works(client)
    server.assert_check_clean()


def test_unmounted_and_mounted_again(new_server, repo):
    with fs.ext4(64) as disk:
        server = new_server(disk.mount_point / "store")
        with server.client() as client:
            image = client.push_image(repo, "latest")
            disk.unmount(lazy=True)
            assert_gone(server, client, repo, image)
            assert list(disk.mount_point.iterdir()) == [], "a new tree was made on the disk below"
            disk.mount()
            orlop.wait_until(lambda: server.admin("/readyz").status == 200)
            assert client.pull_image(repo, "latest") == image.manifest
            assert_works(client)
            server.assert_check_clean()
        server.stop()


# ---- two servers ----


def test_second_server_is_refused_and_told_who_holds_it(new_server, work_dir, repo):
    store = work_dir / "store"
    first = new_server(store)
    result = orlop.run_cli("serve", "--listen", "127.0.0.1:0", "--store", store, timeout=20)
    assert result.returncode == 1
    assert str(first.pid) in result.stderr and str(store) in result.stderr
    assert "in use" in result.stderr
    with first.client() as client:
        assert_works(client, repo)
    first.kill()
    second = new_server(store)  # a killed holder holds nothing
    with second.client() as client:
        assert_works(client, repo)


def test_not_a_store(work_dir):
    """A directory with other people's files, a file, a broken or newer marker: refused, and nothing is touched."""

    def refused(store, *words):
        before = sorted(str(path) for path in work_dir.rglob("*"))
        result = orlop.run_cli("serve", "--listen", "127.0.0.1:0", "--store", store, timeout=20)
        assert result.returncode == 1, result
        for word in words:
            assert word in result.stderr, result.stderr
        assert sorted(str(path) for path in work_dir.rglob("*") if path.name != "lock") == before

    foreign = work_dir / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear reader")
    refused(foreign, str(foreign), "not empty")
    plain = work_dir / "plain"
    plain.write_text("")
    refused(plain, str(plain))
    for name, marker, word in (
        ("broken", "{", "damaged"),
        ("newer", json.dumps({"format": 99, "secret": "0" * 64}), "format 99"),
        ("none", "{}", "format"),
    ):
        path = work_dir / name
        path.mkdir()
        (path / "orlop.json").write_text(marker)
        refused(path, word)
    refused(work_dir / "no" / "such" / "parent" / "store", "no/such/parent")


# ---- orlop check ----


@pytest.fixture
def damaged(new_server, repo):
    """A stopped server's store with an image, an index, a referrer; (server, store path, repo, image)."""
    server = new_server()
    with server.client() as client:
        image = client.push_image(repo, "latest", layers=2, layer_bytes=5000)
        client.push_artifact(repo, "application/x", image.descriptor())
        body = orlop.index([image.descriptor()])
        client.push_manifest(repo, "index", body, orlop.OCI_INDEX)
    server.stop()
    report = server.assert_check_clean()
    assert report.leftovers == []
    yield server, pathlib.Path(server.store), repo, image


def blob_path(store, digest):
    algorithm, encoded = digest.split(":")
    (path,) = (store / "blobs" / algorithm).glob(f"*/{encoded}")
    return path


def manifest_path(store, repo, digest):
    algorithm, encoded = digest.split(":")
    return store / "repos" / repo / "_manifests" / algorithm / encoded


def assert_found(server, key, *kinds):
    """The check fails and names the object among its errors."""
    report = server.check()
    assert report.status == 1, report
    found = [finding for finding in report.errors if key in finding["key"] or key in finding["text"]]
    assert found, report
    assert all(set(finding) >= {"severity", "kind", "key", "text"} for finding in found)
    if kinds:
        assert any(finding["kind"] in kinds for finding in found), found
    return report


def test_check_finds_a_flipped_byte(damaged):
    server, store, _, image = damaged
    path = blob_path(store, sha256(image.layers[0]))
    data = bytearray(path.read_bytes())
    data[2500] ^= 1
    path.write_bytes(data)
    assert_found(server, path.name, "blob-digest-mismatch")
    assert server.check("--quick").status == 0, "sizes are right; --quick looks at nothing else"


@pytest.mark.parametrize("size", [0, 4999, 5001])
def test_check_finds_a_blob_of_another_size(damaged, size):
    server, store, _, image = damaged
    path = blob_path(store, sha256(image.layers[0]))
    path.write_bytes((path.read_bytes() + b"x")[:size])
    assert_found(server, path.name)
    assert server.check("--quick").status == 1


def test_check_finds_a_missing_blob(damaged):
    server, store, _, image = damaged
    path = blob_path(store, sha256(image.config))
    path.unlink()
    assert_found(server, path.name, "blob-missing")


def test_check_reports_a_missing_reference(damaged):
    """A manifest whose layer this repository may no longer read: what a DELETE of a blob in use leaves, so no error."""
    server, store, _, image = damaged
    encoded = sha256(image.layers[0]).split(":")[1]
    (path,) = (store / "refs" / "sha256").glob(f"*/{encoded}")
    shutil.rmtree(path)
    report = server.assert_check_clean()
    assert any(finding["kind"] == "manifest-incomplete" for finding in report.leftovers), report
    assert any(finding["kind"] == "blob-unreferenced" for finding in report.leftovers), report


def test_check_finds_a_missing_manifest(damaged):
    server, store, repo, image = damaged
    manifest_path(store, repo, image.digest).unlink()
    report = assert_found(server, "latest", "manifest-missing")
    assert any(finding["kind"] == "manifest-incomplete" for finding in report.leftovers), "the index misses it too"


def test_check_finds_a_changed_manifest(damaged):
    server, store, repo, image = damaged
    path = manifest_path(store, repo, image.digest)
    path.write_bytes(path.read_bytes().replace(b"amd64", b"arm64") + b" ")
    assert_found(server, path.name)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"digest":"sha256:bad"}', "\xff"])
def test_check_finds_broken_json(damaged, text):
    server, store, repo, _ = damaged
    path = store / "repos" / repo / "_tags" / "latest"
    assert path.exists()
    path.write_bytes(text.encode("latin-1"))
    assert_found(server, "latest")


def test_check_finds_a_broken_reference(damaged):
    server, store, _, image = damaged
    encoded = sha256(image.layers[0]).split(":")[1]
    (path,) = (path for path in (store / "refs").rglob("*") if encoded in str(path) and path.is_file())
    path.write_bytes(b"{")
    assert_found(server, encoded)


def test_check_reports_leftovers_without_failing(damaged):
    server, store, _, _ = damaged
    data = orlop.random_bytes(100)
    encoded = sha256(data).split(":")[1]
    sample = next(path for path in (store / "blobs").rglob("*") if path.is_file())
    stray = sample.parent.parent / encoded[: len(sample.parent.name)] / encoded
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(data)
    report = server.check()
    assert report.status == 0 and report.errors == []
    assert any(encoded in finding["key"] for finding in report.leftovers), report


def test_check_beside_a_running_server(damaged):
    server, store, repo, image = damaged
    server.start()
    server.assert_check_clean()
    path = blob_path(store, sha256(image.layers[0]))
    path.write_bytes(b"damage")
    assert_found(server, path.name)
    server.assert_alive()


def test_check_of_no_store(work_dir):
    for path in (work_dir / "missing", work_dir):
        report = orlop.check(path)
        assert report.status == 1
        assert str(path) in report.stderr
    assert list(work_dir.iterdir()) == []


def test_serving_damaged_data(damaged):
    """Damage is a clear 500 for what is damaged, and nothing for the rest."""
    server, store, repo, image = damaged
    blob_path(store, sha256(image.layers[0])).unlink()
    blob_path(store, sha256(image.layers[1])).write_bytes(b"short")
    (store / "repos" / repo / "_tags" / "latest").write_bytes(b"{")
    server.start()
    with server.client() as client:
        for target in (
            f"/v2/{repo}/blobs/{sha256(image.layers[0])}",
            f"/v2/{repo}/blobs/{sha256(image.layers[1])}",
            f"/v2/{repo}/manifests/latest",
        ):
            answer = client.get(target)
            assert answer.status == 500 and answer.json()["errors"][0]["message"], answer
        assert client.get(f"/v2/{repo}/blobs/{sha256(image.config)}").body == image.config
        # pushing it again repairs it
        assert client.push_blob(repo, image.layers[0])
        assert client.get(f"/v2/{repo}/blobs/{sha256(image.layers[0])}").body == image.layers[0]
        client.push_manifest(repo, "latest", image.manifest)
        assert client.get(f"/v2/{repo}/manifests/latest").body == image.manifest
    server.stop()
