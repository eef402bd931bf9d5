"""crane, oras, regctl and helm: images, artifacts with referrers, chunked pushes, charts."""

import io
import json
import tarfile
import time

import images
import orlop

import pytest
from orlop import OCI_INDEX, OCI_MANIFEST

pytestmark = pytest.mark.deadline(180)

MIB = 1 << 20


@pytest.fixture(autouse=True)
def whole_server(server):
    """Each test leaves the registry unharmed."""
    yield


# ---- crane ----


def test_crane_push_pull_export(crane, server, client, work_dir, expected_files):
    name = f"{server.host}/t/crane:1"
    layout = images.oci_layout()
    crane("push", layout, name)
    digest = crane("digest", name).strip()
    answer = client.get("/v2/t/crane/manifests/1")
    assert answer["Docker-Content-Digest"] == digest
    assert json.loads(crane("manifest", name)) == answer.json()
    crane("validate", "--remote", name)
    crane("pull", "--format", "oci", name, work_dir / "back")
    server.assert_pulled_as_set()
    for item in (answer.json()["config"], *answer.json()["layers"]):
        blob = work_dir / "back" / "blobs" / "sha256" / item["digest"].split(":")[1]
        assert orlop.sha256(blob.read_bytes()) == item["digest"]
    exported = work_dir / "exported.tar"
    crane("export", name, exported)
    with open(exported, "rb") as stream:
        assert images.files_of_tar(stream) == expected_files


def test_crane_copy_tag_list_delete(crane, server, client, repo):
    client.push_image(repo, "one", layers=3)
    name = f"{server.host}/{repo}"
    crane("tag", f"{name}:one", "two")
    crane("copy", f"{name}:one", f"{name}-copy:one")
    assert crane("ls", name).split() == ["one", "two"]
    assert crane("digest", f"{name}-copy:one") == crane("digest", f"{name}:two")
    assert {repo, f"{repo}-copy"} <= set(crane("catalog", server.host).split())
    crane("delete", f"{name}@{crane('digest', f'{name}:one').strip()}")
    assert client.head(f"/v2/{repo}/manifests/two").status == 404
    assert "MANIFEST_UNKNOWN" in crane("manifest", f"{name}:one", fails=True)
    assert client.pull_image(f"{repo}-copy", "one")


def test_crane_append_and_index(crane, server, client, repo, work_dir):
    layer = work_dir / "layer.tar"
    with tarfile.open(layer, "w") as archive:
        info = tarfile.TarInfo("hello")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    name = f"{server.host}/{repo}"
    crane("append", "-f", layer, "-t", f"{name}:base", "--oci-empty-base")
    crane("mutate", f"{name}:base", "--label", "a=b", "-t", f"{name}:labelled")
    crane("index", "append", "-m", f"{name}:base", "-m", f"{name}:labelled", "-t", f"{name}:index")
    answer = client.get(f"/v2/{repo}/manifests/index")
    assert answer["Content-Type"] == OCI_INDEX and len(answer.json()["manifests"]) == 2
    crane("copy", f"{name}:index", f"{name}-copy:index")
    assert client.get(f"/v2/{repo}-copy/manifests/index").body == answer.body


# ---- oras ----


def test_oras_artifact_with_referrers(oras, server, client, repo, work_dir):
    name = f"{server.host}/{repo}"
    (work_dir / "hello.txt").write_text("hello\n")
    (work_dir / "sbom.json").write_text("{}\n")
    plain = ["--plain-http"]
    oras("push", *plain, "--artifact-type", "application/vnd.example.thing", f"{name}:v1",
         "hello.txt:text/plain", "--disable-path-validation", cwd=work_dir)  # fmt: skip
    for number, kind in enumerate(("sbom", "signature", "sbom")):
        oras("attach", *plain, "--artifact-type", f"application/vnd.example.{kind}", "--annotation", f"number={number}",
             f"{name}:v1", "sbom.json:application/json", cwd=work_dir)  # fmt: skip
    digest = oras("resolve", *plain, f"{name}:v1").strip()
    found = json.loads(oras("discover", *plain, "--format", "json", f"{name}:v1"))
    listed = found.get("referrers", found.get("manifests"))
    kinds = [item["artifactType"].rsplit(".", 1)[1] for item in listed]
    assert sorted(set(kinds)) == ["sbom", "signature"] and len(kinds) == 3
    found = json.loads(
        oras("discover", *plain, "--format", "json", "--artifact-type", "application/vnd.example.sbom", f"{name}:v1")
    )
    assert len(found.get("referrers", found.get("manifests"))) == 2
    assert len(client.referrers(repo, digest)) == 3
    assert digest.replace(":", "-") not in client.tags(repo), "the referrers API is there: no fallback tag"
    back = work_dir / "back"
    oras("pull", *plain, "-o", back, f"{name}:v1")
    assert (back / "hello.txt").read_text() == "hello\n"
    # a copy with all that refers to it
    oras("cp", "-r", "--from-plain-http", "--to-plain-http", f"{name}:v1", f"{name}-copy:v1")
    assert len(client.referrers(f"{repo}-copy", digest)) == 3
    # attached twice with the same name, deleted once
    oras("manifest", "delete", *plain, "-f", f"{name}@{listed[0]['digest']}")
    assert len(client.referrers(repo, digest)) == 2


def test_oras_blobs_tags_repositories(oras, server, client, repo, work_dir):
    name = f"{server.host}/{repo}"
    plain = ["--plain-http"]
    data = orlop.random_bytes(3 * MIB)
    (work_dir / "blob").write_bytes(data)
    oras("blob", "push", *plain, name, work_dir / "blob")
    assert oras("blob", "fetch", *plain, "-o", work_dir / "back", f"{name}@{orlop.sha256(data)}") is not None
    assert (work_dir / "back").read_bytes() == data
    oras("blob", "delete", *plain, "-f", f"{name}@{orlop.sha256(data)}")
    assert client.head(f"/v2/{repo}/blobs/{orlop.sha256(data)}").status == 404
    client.push_image(repo, "one")
    oras("tag", *plain, f"{name}:one", "two", "three")
    assert oras("repo", "tags", *plain, name).split() == ["one", "three", "two"]
    assert repo.split("/")[-1] in oras("repo", "ls", *plain, f"{server.host}/{repo.split('/')[0]}/")
    fetched = oras("manifest", "fetch", *plain, f"{name}:one").encode()
    assert orlop.sha256(fetched) == oras("resolve", *plain, f"{name}:two").strip()


def test_oras_copies_the_system(oras, server, client):
    name = f"{server.host}/t/oras-system"
    oras("cp", "--from-oci-layout", "--to-plain-http", f"{images.oci_layout()}:debian", f"{name}:1")
    document = client.get("/v2/t/oras-system/manifests/1").json()
    for item in document["layers"]:
        assert client.head(f"/v2/t/oras-system/blobs/{item['digest']}")["Content-Length"] == str(item["size"])


# ---- regctl ----


@pytest.mark.parametrize("chunk", [64 * 1024, MIB], ids=["64KiB", "1MiB"])
def test_regctl_chunked_push(regctl, server, client, work_dir, chunk):
    """Blobs over 1 KiB go in chunks; a layer of the real system (as it is, tens of MB) among them."""
    name = f"{server.host}/t/regctl-{chunk}"
    regctl(
        "registry", "set", "--tls", "disabled", "--skip-check", "--blob-chunk", chunk, "--blob-max", 1024, server.host
    )
    before = chunks_of(server)
    data = orlop.random_bytes(5 * MIB + 12_345)
    digest = regctl("blob", "put", name, input=data).strip()
    assert digest == orlop.sha256(data)
    deadline = time.monotonic() + 5  # the log is written by a thread of its own
    while chunks_of(server) - before < len(data) // chunk and time.monotonic() < deadline:
        time.sleep(0.05)
    assert chunks_of(server) - before >= len(data) // chunk
    assert client.get_blob(f"t/regctl-{chunk}", digest).body == data
    assert regctl("blob", "get", name, digest, binary=True) == data
    regctl("image", "copy", f"ocidir://{images.oci_layout()}:debian", f"{name}:1")
    document = client.get(f"/v2/t/regctl-{chunk}/manifests/1").json()
    for item in document["layers"]:
        assert client.head(f"/v2/t/regctl-{chunk}/blobs/{item['digest']}")["Content-Length"] == str(item["size"])
    regctl("image", "export", f"{name}:1", work_dir / "export.tar")
    assert (work_dir / "export.tar").stat().st_size > sum(item["size"] for item in document["layers"])


def chunks_of(server):
    """PATCH requests answered, from the access log."""
    return server.log().count(b'"PATCH"')


def test_regctl_artifacts(regctl, server, client, repo):
    image = client.push_image(repo, "v1")
    name = f"{server.host}/{repo}"
    for kind in ("sbom", "signature"):
        regctl(
            "artifact",
            "put",
            "--artifact-type",
            f"application/vnd.example.{kind}",
            "--subject",
            f"{name}:v1",
            input=b"text",
        )
    listed = json.loads(regctl("artifact", "list", "--format", "{{json .}}", f"{name}:v1"))
    assert len(listed["descriptors"]) == 2
    filtered = regctl(
        "artifact",
        "list",
        "--filter-artifact-type",
        "application/vnd.example.sbom",
        "--format",
        "{{json .}}",
        f"{name}:v1",
    )
    assert len(json.loads(filtered)["descriptors"]) == 1
    assert (
        regctl("artifact", "get", "--subject", f"{name}:v1", "--filter-artifact-type", "application/vnd.example.sbom")
        == "text"
    )
    assert len(client.referrers(repo, image.digest)) == 2
    regctl("image", "copy", "--referrers", "--digest-tags", f"{name}:v1", f"{name}-copy:v1")
    assert len(client.referrers(f"{repo}-copy", image.digest)) == 2
    assert regctl("tag", "ls", f"{name}-copy").split() == ["v1"]
    regctl("tag", "rm", f"{name}-copy:v1")
    assert client.head(f"/v2/{repo}-copy/manifests/v1").status == 404
    assert client.head(f"/v2/{repo}-copy/manifests/{image.digest}").status == 200
    assert {repo, f"{repo}-copy"} <= set(regctl("repo", "ls", server.host).split())


def test_regctl_sha512(regctl, server, client, repo):
    """An image converted to sha512 throughout."""
    client.push_image(repo, "v1", layers=2)
    name = f"{server.host}/{repo}"
    regctl("image", "mod", f"{name}:v1", "--digest-algo", "sha512", "--create", f"{name}:v512")
    answer = client.get(f"/v2/{repo}/manifests/v512")
    assert answer["Docker-Content-Digest"] == orlop.sha512(answer.body)
    document = answer.json()
    assert all(item["digest"].startswith("sha512:") for item in (document["config"], *document["layers"]))
    assert client.pull_image(repo, "v512")
    regctl("image", "copy", f"{name}:v512", f"{name}-copy:v512")
    assert client.get(f"/v2/{repo}-copy/manifests/v512").body == answer.body


# ---- helm ----


def test_helm_charts(helm, server, client, repo, work_dir):
    """Push, show, pull; a version with a plus becomes a tag with an underscore."""
    helm("create", work_dir / "chart")
    (work_dir / "back").mkdir()
    charts = f"oci://{server.host}/{repo}"
    for version in ("1.0.0", "1.1.0+build.5"):
        helm("package", work_dir / "chart", "--version", version, "-d", work_dir)
        helm("push", "--plain-http", work_dir / f"chart-{version}.tgz", charts)
    assert client.tags(f"{repo}/chart") == ["1.0.0", "1.1.0_build.5"]
    for version in ("1.0.0", "1.1.0+build.5"):
        assert f"version: {version}" in helm("show", "chart", "--plain-http", f"{charts}/chart", "--version", version)
        helm("pull", "--plain-http", f"{charts}/chart", "--version", version, "-d", work_dir / "back")
        name = f"chart-{version}.tgz"
        assert (work_dir / "back" / name).read_bytes() == (work_dir / name).read_bytes()
    answer = client.get(f"/v2/{repo}/chart/manifests/1.0.0")
    assert answer.json()["config"]["mediaType"] == "application/vnd.cncf.helm.config.v1+json"
    assert answer["Content-Type"] == OCI_MANIFEST
    assert "helm.sh/chart: chart-1.0.0" in helm("template", "--plain-http", f"{charts}/chart", "--version", "1.0.0")
