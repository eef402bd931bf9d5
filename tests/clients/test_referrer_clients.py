"""
Artifacts that belong to an image, as real clients keep them: referrers (oras, regctl, cosign's bundles), signature tags
(cosign's "sha256-….sig"), the fallback tag of clients that know no referrers API, and moves from a registry without one.
"""

import contextlib
import io
import json
import subprocess
import tarfile

import orlop
import pytest
import tools
from orlop import OCI_INDEX, OCI_MANIFEST

pytestmark = pytest.mark.deadline(180)

SBOM, SIGNATURE, SCAN = (f"application/vnd.example.{kind}" for kind in ("sbom", "signature", "scan"))
PLAIN = "--plain-http"
TAG_SCHEME = ("--distribution-spec", "v1.1-referrers-tag")


@pytest.fixture(autouse=True)
def whole_server(server):
    """Each test leaves the registry unharmed."""
    yield


@pytest.fixture
def folder(work_dir):
    """Where there is something to attach."""
    (work_dir / "sbom.json").write_text('{"packages": []}\n')
    (work_dir / "signature.json").write_text('{"signed": true}\n')
    return work_dir


def fallback_tag(digest, suffix=""):
    return digest.replace(":", "-") + suffix


def digests(items):
    return sorted(item["digest"] for item in items)


# ---- oras ----


def attach(oras, subject, kind, file, folder, *options):
    """`oras attach`; the digest of what it pushed."""
    output = oras("attach", PLAIN, *options, "--artifact-type", kind, "--format", "json", subject,
                  f"{file}:application/json", cwd=folder)  # fmt: skip
    return json.loads(output)["digest"]


def discover(oras, subject, *options):
    return json.loads(oras("discover", PLAIN, "--format", "json", *options, subject))["referrers"]


def test_oras_discovers_the_whole_tree(oras, server, client, repo, folder):
    """A signature of an SBOM of an image: found from the image, with the annotations, and copied with it."""
    image = client.push_image(repo, "v1")
    name = f"{server.host}/{repo}"
    sbom = attach(oras, f"{name}:v1", SBOM, "sbom.json", folder, "--annotation", "maker=orlop")
    signature = attach(oras, f"{name}@{sbom}", SIGNATURE, "signature.json", folder)
    (found,) = discover(oras, f"{name}:v1")
    assert (found["digest"], found["artifactType"]) == (sbom, SBOM)
    assert digests(found["referrers"]) == [signature]
    (listed,) = client.referrers(repo, image.digest)
    assert listed["annotations"]["maker"] == "orlop"
    assert discover(oras, f"{name}:v1", "--artifact-type", SIGNATURE) == []
    oras("cp", "-r", "--from-plain-http", "--to-plain-http", f"{name}:v1", f"{name}-copy:v1")
    assert discover(oras, f"{name}-copy:v1")[0]["referrers"][0]["digest"] == signature
    oras("pull", PLAIN, "-o", folder / "back", f"{name}-copy@{sbom}")
    assert (folder / "back" / "sbom.json").read_bytes() == (folder / "sbom.json").read_bytes()


def test_oras_by_the_tag_scheme_and_by_the_api(oras, server, client, repo, folder):
    """Clients of both kinds attach to one image: the API lists all of it, each once, and the tag what its clients put."""
    image = client.push_image(repo, "v1")
    name = f"{server.host}/{repo}:v1"
    by_tag = [attach(oras, name, kind, "sbom.json", folder, *TAG_SCHEME) for kind in (SBOM, SCAN)]
    by_api = attach(oras, name, SIGNATURE, "signature.json", folder)
    assert digests(client.referrers(repo, image.digest)) == sorted([*by_tag, by_api])
    assert digests(discover(oras, name)) == sorted([*by_tag, by_api])
    assert digests(discover(oras, name, *TAG_SCHEME)) == sorted(by_tag)
    assert client.tags(repo) == [fallback_tag(image.digest), "v1"]
    filtered = client.referrers(repo, image.digest, f"?artifactType={SCAN}")
    assert [item["digest"] for item in filtered] == by_tag[1:]


# ---- regctl ----


def put(regctl, *options, text=b"text"):
    """`regctl artifact put`; the manifest's digest."""
    return regctl("artifact", "put", "--format", "{{.Manifest.GetDescriptor.Digest}}", *options, input=text).strip()


def listed_by(regctl, subject, *options):
    return json.loads(regctl("artifact", "list", "--format", "{{json .}}", *options, subject))["descriptors"] or []


def test_regctl_lists_filters_and_draws_trees(regctl, server, client, repo):
    """Referrers of an index and of one platform's image in it."""
    images = {name: client.push_image(repo) for name in ("amd64", "arm64")}
    items = [image.descriptor(platform={"architecture": name, "os": "linux"}) for name, image in images.items()]
    client.push_manifest(repo, "v1", orlop.index(items), OCI_INDEX)
    name = f"{server.host}/{repo}:v1"
    of_index = [put(regctl, "--artifact-type", SBOM, "--subject", name, "--annotation", f"number={i}") for i in (1, 2)]
    of_image = put(regctl, "--artifact-type", SIGNATURE, "--subject", name, "--platform", "linux/arm64")
    assert digests(listed_by(regctl, name)) == sorted(of_index)
    assert digests(listed_by(regctl, name, "--filter-annotation", "number=2")) == of_index[1:]
    assert digests(listed_by(regctl, name, "--platform", "linux/arm64")) == [of_image]
    assert listed_by(regctl, name, "--filter-artifact-type", SIGNATURE) == []
    assert [item["digest"] for item in client.referrers(repo, images["arm64"].digest)] == [of_image]
    tree = regctl("artifact", "tree", name)
    assert all(f"{digest}: {kind}" in tree for digest, kind in zip([*of_index, of_image], (SBOM, SBOM, SIGNATURE)))
    assert regctl("artifact", "get", "--subject", name, "--filter-annotation", "number=1") == "text"
    # a referrer that is deleted is gone from the list, and leaves no tag
    regctl("manifest", "delete", f"{server.host}/{repo}@{of_index[0]}")
    assert digests(listed_by(regctl, name)) == of_index[1:]
    assert client.tags(repo) == ["v1"]


# ---- tags that look like digests ----


def push_signature(crane, work_dir, name):
    """A manifest of cosign's kind, under its tag, pushed by crane."""
    layer = work_dir / "payload.tar"
    with tarfile.open(layer, "w") as archive:
        archive.addfile(tarfile.TarInfo("payload"), io.BytesIO())
    crane("append", "--oci-empty-base", "-f", layer, "-t", name)


@pytest.mark.parametrize("suffix", [".sig", ".att", ".sbom", ""])
def test_signature_tags_are_ordinary_tags(crane, skopeo, regctl, server, client, repo, work_dir, suffix):
    """Pushed, listed, copied with their image, pulled and deleted by three clients. None is taken for a fallback index."""
    image = client.push_image(repo, "v1")
    tag = fallback_tag(image.digest, suffix)
    name = f"{server.host}/{repo}"
    push_signature(crane, work_dir, f"{name}:{tag}")
    assert crane("ls", name).split() == sorted(["v1", tag])
    assert json.loads(skopeo("list-tags", f"docker://{name}"))["Tags"] == sorted(["v1", tag])
    assert client.referrers(repo, image.digest) == []
    regctl("image", "copy", "--digest-tags", f"{name}:v1", f"{name}-copy:v1")
    digest = crane("digest", f"{name}:{tag}")
    assert crane("digest", f"{name}-copy:{tag}") == digest
    skopeo("copy", "-q", f"docker://{name}-copy:{tag}", f"dir:{work_dir / 'back'}")
    assert orlop.sha256((work_dir / "back" / "manifest.json").read_bytes()) == digest.strip()
    regctl("tag", "delete", f"{name}:{tag}")
    assert client.tags(repo) == ["v1"]
    assert client.pull_image(repo, "v1") == image.manifest


def test_an_index_under_the_fallback_tag_is_folded_in(crane, regctl, server, client, repo, work_dir):
    """What somebody listed by hand under the tag, without a subject in it, is a referrer; what has another one is not."""
    image, other = client.push_image(repo, "v1"), client.push_image(repo)
    name = f"{server.host}/{repo}"
    push_signature(crane, work_dir, f"{name}:loose")
    loose = crane("digest", f"{name}:loose").strip()
    foreign, _ = client.push_artifact(repo, SBOM, other.descriptor(), tag="foreign")
    crane("index", "append", "-m", f"{name}:loose", "-m", f"{name}:foreign", "-t",
          f"{name}:{fallback_tag(image.digest)}")  # fmt: skip
    assert digests(listed_by(regctl, f"{name}:v1")) == [loose]
    signature = put(regctl, "--artifact-type", SIGNATURE, "--subject", f"{name}:v1")
    assert digests(listed_by(regctl, f"{name}:v1")) == sorted([loose, signature])
    assert digests(listed_by(regctl, f"{name}@{other.digest}")) == [foreign]


# ---- cosign ----


@pytest.fixture
def keys(cosign, work_dir):
    """The options that sign, and those that verify, with keys and a (void) trusted root of our own."""
    cosign("generate-key-pair", "--output-key-prefix", "test", cwd=work_dir)
    cosign("trusted-root", "create", "--out", work_dir / "root.json")
    return (
        ["--key", work_dir / "test.key", "--tlog-upload=false", "-y"],
        ["--key", work_dir / "test.pub", "--insecure-ignore-tlog=true"],
    )


@pytest.mark.deadline(900)  # it may have to be built
def test_cosign_signature_tags(cosign, keys, crane, server, client, repo, work_dir):
    sign, verify = keys
    image = client.push_image(repo, "v1")
    name = f"{server.host}/{repo}"
    subject = f"{name}@{image.digest}"
    assert "no signatures found" in cosign("verify", *verify, f"{name}:v1", fails=True)
    for _ in range(2):  # the second adds to the first's manifest: the tag moves
        cosign("sign", *sign, subject)
    (work_dir / "predicate.json").write_text('{"built": "here"}')
    cosign("attest", *sign, "--type", "custom", "--predicate", work_dir / "predicate.json", subject)
    cosign("verify", *verify, f"{name}:v1")
    cosign("verify-attestation", *verify, "--type", "custom", f"{name}:v1")
    tags = [fallback_tag(image.digest, suffix) for suffix in (".att", ".sig")]
    assert client.tags(repo) == [*tags, "v1"]
    assert client.referrers(repo, image.digest) == []
    cosign("copy", f"{name}:v1", f"{name}-copy:v1")
    cosign("verify", *verify, f"{name}-copy:v1")
    assert set(client.tags(f"{repo}-copy")) >= {"v1", *tags}
    assert client.pull_image(f"{repo}-copy", "v1") == image.manifest
    cosign("clean", "--type", "all", "-f", f"{name}:v1")
    assert client.tags(repo) == ["v1"]
    assert "no signatures found" in cosign("verify", *verify, f"{name}:v1", fails=True)


@pytest.mark.deadline(900)
def test_cosign_referrers(cosign, keys, server, client, repo, work_dir):
    """Bundles, and signatures in the referrers' mode."""
    sign, verify = keys
    image = client.push_image(repo, "v1")
    subject = f"{server.host}/{repo}@{image.digest}"
    cosign("sign", *sign, "--new-bundle-format", subject)
    cosign("verify", *verify, "--new-bundle-format", "--trusted-root", work_dir / "root.json", subject)
    cosign("sign", *sign, "--registry-referrers-mode=oci-1-1", subject, env={"COSIGN_EXPERIMENTAL": "1"})
    kinds = sorted(item["artifactType"] for item in client.referrers(repo, image.digest))
    assert kinds == ["application/vnd.dev.cosign.artifact.sig.v1+json", "application/vnd.dev.sigstore.bundle.v0.3+json"]
    assert client.tags(repo) == ["v1"]
    tree = cosign("tree", "--experimental-oci11", subject)
    assert all(f"{kind} artifacts via OCI referrer" in tree for kind in kinds)


# ---- moves ----


@pytest.fixture
def old_registry(work_dir):
    """A registry that has no referrers API; its host."""
    program = tools.debian_program("docker-registry")
    host = f"127.0.0.1:{orlop.free_port()}"
    settings = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(work_dir / "old")}},
        "http": {"addr": host},
    }
    (work_dir / "old.json").write_text(json.dumps(settings))  # JSON is YAML
    command = ["setpriv", "--pdeathsig", "KILL", "--", program, "serve", work_dir / "old.json"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = (host.split(":")[0], int(host.split(":")[1]))

    def answers():
        with contextlib.suppress(OSError), orlop.Registry(address) as registry:
            return registry.get("/v2/").status == 200

    try:
        orlop.wait_until(answers)
        yield host, orlop.Registry(address)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("how", ["oras", "regctl"])
def test_artifacts_move_here_from_a_registry_without_referrers(oras, regctl, server, client, repo, folder, old_registry, how):
    """There they hang on a fallback tag; here they are referrers."""
    host, there = old_registry
    source, target = f"{host}/{repo}:v1", f"{server.host}/{repo}:v1"
    with there:
        image = there.push_image(repo, "v1")
        attached = [attach(oras, source, kind, "sbom.json", folder) for kind in (SBOM, SCAN)]
        assert fallback_tag(image.digest) in there.tags(repo)
    if how == "oras":
        oras("cp", "-r", "--from-plain-http", "--to-plain-http", source, target)
    else:
        regctl("registry", "set", "--tls", "disabled", "--skip-check", host)
        regctl("image", "copy", "--referrers", "--digest-tags", source, target)
    assert digests(client.referrers(repo, image.digest)) == sorted(attached)
    assert digests(discover(oras, target)) == sorted(attached)
    assert client.pull_image(repo, "v1") == image.manifest
