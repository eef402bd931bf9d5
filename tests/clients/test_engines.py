"""docker, podman, buildah and skopeo from Debian push and pull a whole Debian system: equal digests, equal files."""

import base64
import crypt
import json
import os
import re

import images
import orlop
import pytest
from orlop import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

pytestmark = pytest.mark.deadline(300)

LAYERS = len(images.LAYERS)


@pytest.fixture(autouse=True)
def whole_server(server):
    """Each test leaves the registry unharmed."""
    yield


def manifest_of(client, repo, tag, *media_types):
    """A tag's manifest, its digest verified; (document, digest)."""
    answer = client.get(f"/v2/{repo}/manifests/{tag}", [("Accept", media_type) for media_type in media_types])
    assert answer.status == 200, answer
    assert answer["Content-Type"] in media_types
    assert answer["Docker-Content-Digest"] == orlop.sha256(answer.body)
    return answer.json(), answer["Docker-Content-Digest"]


def assert_blobs(client, repo, document):
    """Every blob of an image is there with its size."""
    for item in (document["config"], *document["layers"]):
        answer = client.head(f"/v2/{repo}/blobs/{item['digest']}")
        assert (answer.status, answer["Content-Length"]) == (200, str(item["size"]))


def received_bytes(server):
    return server.metrics()['orlop_http_body_bytes_total{direction="in"}']


# ---- docker ----


@pytest.fixture(scope="module")
def built_by_docker(docker, build_context):
    docker("build", "-q", "--network=none", "-t", "debian:built", build_context)
    return "debian:built"


@pytest.fixture
def pushed_by_docker(docker, built_by_docker, server, client):
    """The system in t/docker:1, pushed if it is not there yet; its name."""
    name = f"{server.host}/t/docker:1"
    docker("tag", built_by_docker, name)
    if client.head("/v2/t/docker/manifests/1").status != 200:
        docker("push", name)
    return name


def test_docker_push_and_pull(docker, pushed_by_docker, client, server, expected_files, debian_version):
    document, digest = manifest_of(client, "t/docker", "1", DOCKER_MANIFEST)
    assert len(document["layers"]) == LAYERS
    assert_blobs(client, "t/docker", document)
    again = docker("push", pushed_by_docker)
    assert f"digest: {digest}" in again, "docker's idea of the digest"
    image_id = docker("image", "inspect", "-f", "{{.Id}}", pushed_by_docker).strip()
    assert image_id == document["config"]["digest"]
    docker.forget(pushed_by_docker, "debian:built")
    docker.pull(pushed_by_docker)
    server.assert_pulled_as_set()
    assert docker("image", "inspect", "-f", "{{.Id}}", pushed_by_docker).strip() == image_id
    assert docker("image", "inspect", "-f", "{{index .RepoDigests 0}}", pushed_by_docker).strip().endswith(digest)
    docker("tag", pushed_by_docker, "debian:built")
    assert docker.files(pushed_by_docker) == expected_files
    assert docker("run", "--rm", "--network=none", pushed_by_docker) == debian_version


def test_docker_mounts_from_another_repository(docker, pushed_by_docker, server, client):
    name = f"{server.host}/t/docker-mounted:1"
    docker("tag", pushed_by_docker, name)
    before = received_bytes(server)
    output = docker("push", name)
    assert output.count("Mounted from t/docker") == LAYERS, output
    assert received_bytes(server) - before < 100_000, "layers were uploaded again"
    assert manifest_of(client, "t/docker-mounted", "1", DOCKER_MANIFEST) == manifest_of(
        client, "t/docker", "1", DOCKER_MANIFEST
    )


def test_docker_pull_by_digest(docker, pushed_by_docker, server, client):
    _, digest = manifest_of(client, "t/docker", "1", DOCKER_MANIFEST)
    assert digest in docker("pull", f"{server.host}/t/docker@{digest}")


def test_docker_pulls_an_oci_image(docker, skopeo, server, client, expected_files):
    name = f"{server.host}/t/oci-for-docker:1"
    skopeo("copy", "-q", f"oci:{images.oci_layout()}:debian", f"docker://{name}")
    document, _ = manifest_of(client, "t/oci-for-docker", "1", OCI_MANIFEST)
    docker.pull(name)
    assert docker("image", "inspect", "-f", "{{.Id}}", name).strip() == document["config"]["digest"]
    assert docker.files(name) == expected_files
    docker.forget(name)


def test_docker_says_what_is_missing(docker, server):
    assert re.search("not found|manifest unknown", docker.fails("pull", f"{server.host}/t/docker:no-such-tag"))
    assert re.search("not found|manifest unknown", docker.fails("pull", f"{server.host}/no/such/repository:1"))


# ---- podman ----


@pytest.fixture(scope="module")
def built_by_podman(podman, build_context):
    # --layers: one layer for each line, as docker has it
    podman("build", "-q", "--layers", "--network=none", "-t", "localhost/debian:built", build_context)
    return "localhost/debian:built"


@pytest.mark.parametrize(
    "how, media_type, layer_type",
    [
        (["--format", "oci"], OCI_MANIFEST, "application/vnd.oci.image.layer.v1.tar+gzip"),
        (["--format", "v2s2"], DOCKER_MANIFEST, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        (
            ["--format", "oci", "--compression-format", "zstd"],
            OCI_MANIFEST,
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ),
    ],
    ids=["oci", "docker", "zstd"],
)
def test_podman_push_and_pull(podman, built_by_podman, new_server, expected_files, how, media_type, layer_type):
    # a registry of its own: podman would reuse layers it knows to be there, compressed the other way
    server = new_server()
    client = server.client()
    tag = layer_type.rsplit(".", 1)[1].replace("+", "-")
    name = f"{server.host}/t/podman:{tag}"
    podman("push", "-q", "--tls-verify=false", *how, built_by_podman, f"docker://{name}")
    document, digest = manifest_of(client, "t/podman", tag, media_type)
    assert len(document["layers"]) >= LAYERS
    assert {layer["mediaType"] for layer in document["layers"]} == {layer_type}
    assert_blobs(client, "t/podman", document)
    podman.forget("--all")
    podman.pull(name)
    server.assert_pulled_as_set()
    inspected = json.loads(podman("image", "inspect", name))[0]
    assert inspected["Digest"] == digest
    assert "sha256:" + inspected["Id"] == document["config"]["digest"]
    assert podman.files(name) == expected_files
    podman("tag", name, built_by_podman)


def test_podman_runs_it(podman, built_by_podman, debian_version):
    output = podman(
        *("run", "--rm", "--network=host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
        built_by_podman,
    )
    assert output == debian_version


def test_podman_pulls_what_docker_pushed_and_the_other_way(
    podman, docker, pushed_by_docker, built_by_podman, server, client, expected_files
):
    document, _ = manifest_of(client, "t/docker", "1", DOCKER_MANIFEST)
    assert podman.pull(pushed_by_docker).strip() == document["config"]["digest"].removeprefix("sha256:")
    assert podman.files(pushed_by_docker) == expected_files
    name = f"{server.host}/t/from-podman:1"
    podman("push", "-q", "--tls-verify=false", "--format", "oci", built_by_podman, f"docker://{name}")
    document, _ = manifest_of(client, "t/from-podman", "1", OCI_MANIFEST)
    docker.pull(name)
    assert docker("image", "inspect", "-f", "{{.Id}}", name).strip() == document["config"]["digest"]
    assert docker.files(name) == expected_files


def test_podman_manifest_list(podman, built_by_podman, server, client):
    """A multi-arch index from images in the registry, pushed and pulled by architecture."""
    name = f"{server.host}/t/podman-list"
    podman("push", "-q", "--tls-verify=false", "--format", "oci", built_by_podman, f"docker://{name}:one")
    client.push_image("t/podman-list", "two")
    podman("manifest", "create", "list1")
    podman("manifest", "add", "--tls-verify=false", "list1", f"docker://{name}:one")
    podman("manifest", "add", "--tls-verify=false", "--arch", "s390x", "list1", f"docker://{name}:two")
    podman("manifest", "push", "--tls-verify=false", "--all", "list1", f"docker://{name}:list")
    document, _ = manifest_of(client, "t/podman-list", "list", OCI_INDEX, DOCKER_LIST)
    assert len({item["platform"]["architecture"] for item in document["manifests"]}) == 2
    for item in document["manifests"]:
        assert client.head(f"/v2/t/podman-list/manifests/{item['digest']}").status == 200
    podman.pull(f"{name}:list")
    podman("manifest", "rm", "list1")


def test_podman_search_lists_tags(podman, built_by_podman, server):
    name = f"{server.host}/t/searched"
    for tag in ("one", "two"):
        podman("push", "-q", "--tls-verify=false", built_by_podman, f"docker://{name}:{tag}")
    found = podman("search", "--tls-verify=false", "--list-tags", name).splitlines()[1:]
    assert [line.split() for line in found] == [[name, "one"], [name, "two"]]


# ---- buildah ----


@pytest.fixture(scope="module")
def built_by_buildah(buildah):
    """Assembled layer by layer, as buildah's users do it in shell scripts."""
    container = buildah("from", "scratch").strip()
    for layer in images.layers():
        buildah("add", "-q", container, layer, "/")
    buildah("config", "--cmd", "/bin/cat /etc/debian_version", container)
    buildah("commit", "-q", "--rm", container, "localhost/debian:buildah")
    return "localhost/debian:buildah"


@pytest.mark.parametrize(
    "how, media_type",
    [(["--format", "oci"], OCI_MANIFEST), (["--format", "v2s2"], DOCKER_MANIFEST)],
    ids=["oci", "docker"],
)
def test_buildah_push_and_pull(buildah, podman, built_by_buildah, server, client, expected_files, how, media_type):
    tag = how[1]
    name = f"{server.host}/t/buildah:{tag}"
    buildah("push", "-q", "--tls-verify=false", *how, built_by_buildah, f"docker://{name}")
    document, _ = manifest_of(client, "t/buildah", tag, media_type)
    assert_blobs(client, "t/buildah", document)
    buildah("pull", "-q", "--tls-verify=false", name)
    container = buildah("from", "--pull-never", name).strip()
    try:
        root = buildah("mount", container).strip()
        assert os.path.exists(f"{root}/etc/debian_version")
        server.assert_pulled_as_set()
    finally:
        buildah("umount", container)
        buildah("rm", container)
    podman.pull(name)
    assert podman.files(name) == expected_files


def test_buildah_builds_on_a_pulled_image(buildah, built_by_buildah, server, client, engine_dir):
    name = f"{server.host}/t/base:1"
    buildah("push", "-q", "--tls-verify=false", "--format", "oci", built_by_buildah, f"docker://{name}")
    folder = engine_dir / "child"
    folder.mkdir(exist_ok=True)
    (folder / "hello").write_text("hello")
    (folder / "Dockerfile").write_text(f"FROM {name}\nCOPY hello /hello\n")
    child = f"{server.host}/t/child:1"
    before = received_bytes(server)
    buildah("bud", "-q", "--isolation", "chroot", "--tls-verify=false", "-t", child, folder)
    buildah("push", "-q", "--tls-verify=false", child)
    base, _ = manifest_of(client, "t/base", "1", OCI_MANIFEST)
    document, _ = manifest_of(client, "t/child", "1", OCI_MANIFEST)
    assert document["layers"][:-1] == base["layers"]
    assert received_bytes(server) - before < 1_000_000, "the base was mounted, not sent"


# ---- skopeo ----


@pytest.fixture
def pushed_by_skopeo(skopeo, server, client):
    name = f"docker://{server.host}/t/skopeo"
    if client.head("/v2/t/skopeo/manifests/1").status != 200:
        skopeo("copy", "-q", f"oci:{images.oci_layout()}:debian", f"{name}:1")
    return name


def test_skopeo_keeps_every_byte(skopeo, pushed_by_skopeo, server, client, engine_dir):
    """From an OCI layout to the registry and back: the same digests, the same blobs."""
    layout = images.oci_layout()
    source = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    document, digest = manifest_of(client, "t/skopeo", "1", OCI_MANIFEST)
    assert digest == source
    back = engine_dir / "skopeo-back"
    skopeo("copy", "-q", f"{pushed_by_skopeo}:1", f"oci:{back}:debian")
    server.assert_pulled_as_set()
    assert json.loads((back / "index.json").read_text())["manifests"][0]["digest"] == source
    for item in (document["config"], *document["layers"]):
        encoded = item["digest"].split(":")[1]
        data = (back / "blobs" / "sha256" / encoded).read_bytes()
        assert orlop.sha256(data) == item["digest"]
    assert skopeo("inspect", "--format", "{{.Digest}}", f"{pushed_by_skopeo}:1").strip() == digest


def test_skopeo_copies_between_repositories(skopeo, pushed_by_skopeo, server, client):
    before = received_bytes(server)
    target = f"docker://{server.host}/t/skopeo-copy:1"
    skopeo("copy", "-q", f"{pushed_by_skopeo}:1", target)
    assert (
        manifest_of(client, "t/skopeo-copy", "1", OCI_MANIFEST)[1]
        == manifest_of(client, "t/skopeo", "1", OCI_MANIFEST)[1]
    )
    assert received_bytes(server) - before < 1_000_000, "the layers were mounted, not sent"


@pytest.mark.parametrize(
    "options, media_type",
    [(["--format", "v2s2"], DOCKER_MANIFEST), (["--dest-compress-format", "zstd", "--format", "oci"], OCI_MANIFEST)],
    ids=["docker", "zstd"],
)
def test_skopeo_converts(skopeo, pushed_by_skopeo, client, options, media_type):
    tag = options[1]
    skopeo("copy", "-q", *options, f"{pushed_by_skopeo}:1", f"{pushed_by_skopeo}:{tag}")
    document, _ = manifest_of(client, "t/skopeo", tag, media_type)
    assert_blobs(client, "t/skopeo", document)


def test_skopeo_copies_an_index_with_all_images(skopeo, server, client, engine_dir):
    """Four architectures of a small image, and an index in the index, as they are."""
    repo = "t/index"
    images_of = {}
    for architecture in ("amd64", "arm64", "s390x", "riscv64"):
        images_of[architecture] = client.push_image(repo, layers=2)
    items = [image.descriptor(platform={"architecture": name, "os": "linux"}) for name, image in images_of.items()]
    body = orlop.index(items)
    client.push_manifest(repo, "all", body, OCI_INDEX)
    layout = engine_dir / "index-layout"
    skopeo("copy", "-q", "--all", "--preserve-digests", f"docker://{server.host}/{repo}:all", f"oci:{layout}:all")
    skopeo("copy", "-q", "--all", "--preserve-digests", f"oci:{layout}:all", f"docker://{server.host}/{repo}-back:all")
    answer = client.get(f"/v2/{repo}-back/manifests/all")
    assert answer.body == body
    for item in items:
        assert client.pull_image(f"{repo}-back", item["digest"])


def test_skopeo_list_tags_inspect_delete(skopeo, pushed_by_skopeo, server, client):
    repository = f"docker://{server.host}/t/deleted"
    skopeo("copy", "-q", f"{pushed_by_skopeo}:1", f"{repository}:1")
    skopeo("copy", "-q", f"{pushed_by_skopeo}:1", f"{repository}:2")
    assert json.loads(skopeo("list-tags", repository))["Tags"] == ["1", "2"]
    assert json.loads(skopeo("inspect", f"{repository}:1"))["RepoTags"] == ["1", "2"]
    skopeo("delete", f"{repository}:1")
    assert client.head("/v2/t/deleted/manifests/1").status == 404
    assert "manifest unknown" in skopeo("inspect", f"{repository}:1", fails=True)


# ---- logging in ----

USER, PASSWORD = "alice", "secret word"


@pytest.fixture(scope="module")
def locked_server(module_dir):
    path = module_dir / "htpasswd"
    path.write_text(f"{USER}:{crypt.crypt(PASSWORD, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << 5))}\n")
    with orlop.Server(args=["--auth-htpasswd", path]) as server:
        yield server
        server.assert_alive()


@pytest.fixture
def owner(locked_server):
    """A client with the right credentials."""
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with locked_server.client(headers=[("Authorization", f"Basic {token}")]) as client:
        yield client


def test_docker_login(docker, built_by_docker, locked_server, owner):
    name = f"{locked_server.host}/locked/docker:1"
    docker("tag", built_by_docker, name)
    assert re.search("no basic auth credentials|unauthorized|authentication required", docker.fails("push", name))
    assert "unauthorized" in docker.fails("login", "-u", USER, "-p", "wrong", locked_server.host).lower()
    docker("login", "-u", USER, "-p", PASSWORD, locked_server.host)
    docker("push", name)
    assert owner.head("/v2/locked/docker/manifests/1").status == 200
    docker.forget(name)
    docker.pull(name)
    docker("logout", locked_server.host)
    docker.forget(name)
    assert re.search("no basic auth credentials|unauthorized|authentication required", docker.fails("pull", name))


def test_podman_and_skopeo_login(podman, skopeo, locked_server, owner):
    source = f"oci:{images.oci_layout()}:debian"
    target = f"docker://{locked_server.host}/locked/skopeo:1"
    assert "unauthorized" in skopeo("copy", "-q", source, target, fails=True).lower()
    skopeo("login", "-u", USER, "-p", PASSWORD, locked_server.host)
    skopeo("copy", "-q", source, target)
    assert owner.head("/v2/locked/skopeo/manifests/1").status == 200
    name = f"{locked_server.host}/locked/skopeo:1"
    assert "unauthorized" in podman.fails("pull", "--tls-verify=false", name).lower()
    podman("login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, locked_server.host)
    podman.pull(name)
    podman("logout", locked_server.host)
