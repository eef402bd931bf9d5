"""Lists: tags (TL), the catalog (EX-3), referrers (RF) (checklist 12, 13, 15)."""

import json
import pathlib
import shutil

import orlop
import pytest
from orlop import EMPTY_JSON, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, descriptor, next_link, sha256, sha512

ABSENT = "sha256:" + "0" * 64
CLIENT_PAGE_BYTES = 4 * 1024 * 1024  # what clients read of one answer at most


def follow(client, target, key):
    """All entries of a list in pages, and the number of pages."""
    entries, pages = [], 0
    while target:
        answer = client.get(target)
        assert answer.status == 200, answer
        entries += answer.json()[key]
        pages += 1
        target = next_link(answer)
        assert target is None or target.startswith("/v2/"), "the link is path-absolute"
    return entries, pages


# ---- tags ----

ORDERED = ["0", "A", "Z", "_", "a", "a-b", "a.b", "a0", "aa", "b", "latest", "v1", "v1.10", "v1.2", "v10", "z_"]


@pytest.fixture
def tagged(client, repo):
    """A repository whose tags are ORDERED."""
    image = client.push_image(repo)
    for tag in reversed(ORDERED):
        client.push_manifest(repo, tag, image.manifest)
    return repo


def test_TL_1_shape_and_unknown(client, tagged):
    answer = client.get(f"/v2/{tagged}/tags/list")
    assert answer["Content-Type"].startswith("application/json")
    assert answer.json() == {"name": tagged, "tags": ORDERED}
    answer = client.get("/v2/no/such/repository/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


def test_TL_1_no_tags_is_an_empty_list(client, repo):
    client.push_image(repo)
    assert client.get(f"/v2/{repo}/tags/list").json() == {"name": repo, "tags": []}


def test_TL_2_22_11_byte_order(client, tagged):
    assert client.tags(tagged) == sorted(ORDERED, key=str.encode)


@pytest.mark.parametrize("n", [1, 2, 5, 15])
def test_TL_3_6_pages(client, tagged, n):
    answer = client.get(f"/v2/{tagged}/tags/list?n={n}")
    assert answer.json()["tags"] == ORDERED[:n]
    assert next_link(answer)
    entries, pages = follow(client, f"/v2/{tagged}/tags/list?n={n}", "tags")
    assert entries == ORDERED
    assert pages == -(-len(ORDERED) // n), "no link when nothing remains"


def test_TL_3_6_no_link_when_nothing_remains(client, tagged):
    for n in (len(ORDERED), len(ORDERED) + 1, 10_000, 1_000_000):
        answer = client.get(f"/v2/{tagged}/tags/list?n={n}")
        assert answer.json()["tags"] == ORDERED and "Link" not in answer


def test_TL_4_zero(client, tagged):
    answer = client.get(f"/v2/{tagged}/tags/list?n=0")
    assert (answer.status, answer.json()["tags"]) == (200, [])
    assert "Link" not in answer


def test_TL_5_last(client, tagged):
    for last in (*ORDERED, "a-", "zzz", "9"):
        expected = [tag for tag in ORDERED if tag > last]
        assert client.tags(tagged, f"?last={last}") == expected
        assert client.tags(tagged, f"?last={last}&n=3") == expected[:3]
        assert client.tags(tagged, f"?n=3&last={last}") == expected[:3]


def test_TL_7_default_page_is_large(client, repo):
    image = client.push_image(repo)
    tags = [f"t{i:04}" for i in range(150)]
    for at in range(0, 150, 10):
        query = "?" + "&".join(f"tag={tag}" for tag in tags[at : at + 10])
        client.push_manifest(repo, image.digest, image.manifest, query=query)
    assert client.tags(repo) == tags


def test_TL_8_deleting_a_manifest(client, repo):
    one, two = client.push_image(repo, "one"), client.push_image(repo, "two")
    client.push_manifest(repo, "uno", one.manifest)
    assert client.delete(f"/v2/{repo}/manifests/{one.digest}").status == 202
    assert client.tags(repo) == ["two"]
    assert client.delete(f"/v2/{repo}/manifests/{two.digest}").status == 202
    answer = client.get(f"/v2/{repo}/tags/list")
    assert answer.status == 404 or answer.json() == {"name": repo, "tags": []}


@pytest.mark.parametrize("n", ["-1", "x", "1.5", "", "0x10", "99999999999999999999999", "1+1", "+1"])
def test_TL_9_bad_n(client, tagged, n):
    answer = client.get(f"/v2/{tagged}/tags/list?n={n}")
    assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID"), answer
    assert client.get(f"/v2/_catalog?n={n}").status == 400


# ---- catalog ----

REPOSITORIES = ["zz", "zz-a", "zz.a", "zz/a", "zz/a-b", "zz/a.b", "zz/a/b", "zz/a__b", "zz/a_b", "zz/aa", "zz_a", "zza"]


@pytest.fixture(scope="module")
def catalog(module_server):
    with module_server.client() as client:
        for name in reversed(REPOSITORIES):
            client.push_image(name, "latest")


def test_EX_3_catalog(client, catalog):
    answer = client.get("/v2/_catalog?n=10000")
    names = answer.json()["repositories"]
    assert set(answer.json()) == {"repositories"}
    assert names == sorted(names, key=str.encode)
    assert [name for name in names if name.startswith("zz")] == REPOSITORIES


@pytest.mark.parametrize("n", [1, 2, 5, 11, 12, 13])
def test_EX_3_catalog_pages(client, catalog, n):
    entries, pages = follow(client, f"/v2/_catalog?n={n}&last=zy", "repositories")
    assert entries == REPOSITORIES
    assert pages == -(-len(REPOSITORIES) // n)


def test_EX_3_catalog_last_and_zero(client, catalog):
    for last in (*REPOSITORIES, "zz/a-", "zz%2Fa", "zzz"):
        plain = last.replace("%2F", "/")
        answer = client.get(f"/v2/_catalog?last={last}")
        assert answer.json()["repositories"] == [name for name in REPOSITORIES if name > plain]
    answer = client.get("/v2/_catalog?n=0")
    assert answer.json() == {"repositories": []} and "Link" not in answer


def test_EX_3_empty_catalog(new_server):
    with new_server().client() as client:
        assert client.get("/v2/_catalog").json() == {"repositories": []}


# ---- referrers ----


def referrers_answer(client, repo, subject, query=""):
    answer = client.get(f"/v2/{repo}/referrers/{subject}{query}")
    assert answer.status == 200, answer
    assert answer["Content-Type"] == OCI_INDEX
    document = answer.json()
    assert document["schemaVersion"] == 2 and document["mediaType"] == OCI_INDEX
    assert isinstance(document["manifests"], list)
    return answer


def by_digest(descriptors):
    assert len({item["digest"] for item in descriptors}) == len(descriptors), "an entry came twice"
    return {item["digest"]: item for item in descriptors}


def test_RF_1_2_empty(client, repo):
    for repository in (repo, "no/such/repository"):
        for subject in (ABSENT, "sha512:" + "0" * 128):
            answer = referrers_answer(client, repository, subject)
            assert answer.json()["manifests"] == []
            assert "OCI-Filters-Applied" not in answer and "Link" not in answer
        client.push_image(repo)


@pytest.mark.parametrize(
    "digest", ["sha256:bad", "latest", "md5:" + "0" * 32, "sha256:" + "A" * 64, "sha256-" + "0" * 64]
)
def test_RF_3_malformed(client, repo, digest):
    answer = client.get(f"/v2/{repo}/referrers/{digest}")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID"), answer


def test_RF_4_5_6_descriptors(client, repo):
    image = client.push_image(repo, "image")
    subject = image.descriptor()
    expected = {}

    def expect(data, media_type, artifact_type, annotations=None):
        entry = descriptor(data, media_type)
        if artifact_type is not None:
            entry["artifactType"] = artifact_type
        if annotations is not None:
            entry["annotations"] = annotations
        expected[entry["digest"]] = entry

    notes = {"org.example.key": "value", "ключ": "значение \U0001f680", "": ""}
    _, data = client.push_artifact(repo, "application/x-one", subject, notes)
    expect(data, OCI_MANIFEST, "application/x-one", notes)
    # artifactType from the config
    client.push_blob(repo, EMPTY_JSON)
    for artifact_type in (None, ""):
        data = orlop.artifact(artifact_type, subject, config_type="application/x-config", marker=str(artifact_type))
        client.push_manifest(repo, sha256(data), data)
        expect(data, OCI_MANIFEST, "application/x-config")
    # an index with, and one without
    for more, artifact_type in (({"artifactType": "application/x-index"}, "application/x-index"), ({}, None)):
        data = orlop.index([subject], subject=subject, annotations={"a": "b"}, **more)
        client.push_manifest(repo, "tagged-index", data, OCI_INDEX)
        expect(data, OCI_INDEX, artifact_type, {"a": "b"})
    # neither of these counts
    client.push_artifact(repo, "application/x-other", client.push_image(repo).descriptor())
    client.push_artifact(repo, "application/x-none")
    client.push_artifact(orlop.new_repo(), "application/x-elsewhere", subject)

    assert by_digest(client.referrers(repo, image.digest)) == expected


def test_RF_4_repeated_pushes_count_once(client, repo):
    image = client.push_image(repo)
    digest, data = client.push_artifact(repo, "application/x", image.descriptor())
    for reference in (digest, "a", "b"):
        client.push_manifest(repo, reference, data)
    assert [item["digest"] for item in client.referrers(repo, image.digest)] == [digest]


@pytest.fixture
def typed(client, repo):
    """A subject with referrers of types a (2), b (1), c (1), and an index without a type."""
    image = client.push_image(repo)
    subject = image.descriptor()
    found = {}
    for name, count in (("a", 2), ("b", 1), ("c", 1)):
        for i in range(count):
            digest, _ = client.push_artifact(repo, f"application/x.{name}+json", subject, {"i": str(i)})
            found.setdefault(name, set()).add(digest)
    data = orlop.index([], subject=subject)
    client.push_manifest(repo, sha256(data), data, OCI_INDEX)
    found["none"] = {sha256(data)}
    return image.digest, found


def test_RF_7_filter(client, repo, typed):
    subject, found = typed
    for names in (["a"], ["b"], ["a", "b"], ["a", "b", "c"], ["missing"], ["a", "missing"], ["a", "a"]):
        query = "?" + "&".join(f"artifactType=application%2Fx.{name}%2Bjson" for name in names)
        answer = referrers_answer(client, repo, subject, query)
        assert answer["OCI-Filters-Applied"] == "artifactType"
        expected = set().union(*(found.get(name, set()) for name in names))
        assert set(by_digest(answer.json()["manifests"])) == expected
    answer = referrers_answer(client, repo, subject)
    assert "OCI-Filters-Applied" not in answer
    assert set(by_digest(answer.json()["manifests"])) == set().union(*found.values())


def test_RF_8_pages_by_size(client, repo):
    """Six descriptors of 900 KB each: several pages, each small enough for every client."""
    image = client.push_image(repo)
    expected = set()
    for i in range(6):
        digest, _ = client.push_artifact(
            repo, f"application/x-{i % 2}", image.descriptor(), {"fill": "x" * 900_000, "i": str(i)}
        )
        expected.add(digest)
    for query, wanted in (("", 6), ("?artifactType=application/x-1", 3)):
        target, found, pages = f"/v2/{repo}/referrers/{image.digest}{query}", [], 0
        while target:
            answer = client.get(target)
            assert answer.status == 200 and answer["Content-Type"] == OCI_INDEX
            assert len(answer.body) < CLIENT_PAGE_BYTES
            page = answer.json()["manifests"]
            assert page
            assert all(len(item["annotations"]["fill"]) == 900_000 for item in page)
            if query:
                assert answer["OCI-Filters-Applied"] == "artifactType", "the link keeps the filter"
                assert {item["artifactType"] for item in page} == {"application/x-1"}
            found += page
            pages += 1
            target = next_link(answer)
        assert len(by_digest(found)) == wanted
        assert set(by_digest(found)) <= expected
        assert pages >= 2 if wanted == 6 else pages >= 1


def test_RF_8_one_descriptor_near_the_limit(client, repo):
    """A manifest of almost 4 MiB that is nearly all annotations gives a page clients can still read, or nearly."""
    image = client.push_image(repo)
    for i in range(2):
        client.push_artifact(repo, "application/x", image.descriptor(), {"fill": "x" * 4_000_000, "i": str(i)})
    entries, pages = follow(client, f"/v2/{repo}/referrers/{image.digest}", "manifests")
    assert (len(by_digest(entries)), pages) == (2, 2)


def test_RF_8_many(client, repo):
    image = client.push_image(repo)
    expected = {}
    client.push_blob(repo, EMPTY_JSON)
    for i in range(120):
        data = orlop.artifact(f"application/x-{i % 3}", image.descriptor(), {"i": str(i)})
        client.push_manifest(repo, sha256(data), data)
        expected[sha256(data)] = f"application/x-{i % 3}"
    base = f"/v2/{repo}/referrers/{image.digest}"
    entries, _ = follow(client, base, "manifests")
    assert {item["digest"]: item["artifactType"] for item in entries} == expected
    for n in (7, 50, 119, 120):
        entries, pages = follow(client, f"{base}?n={n}", "manifests")
        assert set(by_digest(entries)) == set(expected)
        assert pages <= -(-120 // n) + 1
    entries, _ = follow(client, f"{base}?n=7&artifactType=application/x-2", "manifests")
    assert set(by_digest(entries)) == {digest for digest, kind in expected.items() if kind.endswith("2")}


def test_RF_9_deleted_and_order_of_pushes(client, repo):
    image = orlop.random_bytes(30)
    client.push_blob(repo, image)
    client.push_blob(repo, EMPTY_JSON)
    subject_body = orlop.artifact("application/x-subject", annotations={"n": image.hex()})
    subject = descriptor(subject_body, OCI_MANIFEST)
    before, _ = client.push_artifact(repo, "application/x-before", subject)
    assert [item["digest"] for item in client.referrers(repo, subject["digest"])] == [before]
    client.push_manifest(repo, "subject", subject_body)
    after, _ = client.push_artifact(repo, "application/x-after", subject)
    assert set(by_digest(client.referrers(repo, subject["digest"]))) == {before, after}
    assert client.delete(f"/v2/{repo}/manifests/{before}").status == 202
    assert set(by_digest(client.referrers(repo, subject["digest"]))) == {after}
    assert client.delete(f"/v2/{repo}/manifests/{subject['digest']}").status == 202
    assert set(by_digest(client.referrers(repo, subject["digest"]))) == {after}
    assert client.delete(f"/v2/{repo}/manifests/{after}").status == 202
    assert client.referrers(repo, subject["digest"]) == []


def test_RF_sha256_and_sha512_names_of_one_subject_are_two(client, repo):
    image = client.push_image(repo)
    client.push_manifest(repo, sha512(image.manifest), image.manifest)
    one, _ = client.push_artifact(repo, "application/x", image.descriptor())
    two, _ = client.push_artifact(repo, "application/x", descriptor(image.manifest, OCI_MANIFEST, "sha512"))
    assert [item["digest"] for item in client.referrers(repo, image.digest)] == [one]
    assert [item["digest"] for item in client.referrers(repo, sha512(image.manifest))] == [two]


def test_RF_10_fallback_tag(new_server, repo):
    """
    Data from before there was a referrers API: the manifests are there, an index under the fallback tag lists them,
    no referrer is indexed. They are found all the same, beside what is pushed from now on.
    """
    server = new_server()
    with server.client() as client:
        image = client.push_image(repo)
        old, old_data = client.push_artifact(repo, "application/x-old", image.descriptor(), {"a": "b"})
        gone, gone_data = client.push_artifact(repo, "application/x-gone", image.descriptor())
        unrelated, unrelated_data = client.push_artifact(repo, "application/x-unrelated")
        listed = [descriptor(data, OCI_MANIFEST) for data in (old_data, gone_data, unrelated_data)]
        fallback = orlop.index(listed)
        client.push_manifest(repo, image.digest.replace(":", "-"), fallback, OCI_INDEX)
        assert client.delete(f"/v2/{repo}/manifests/{gone}").status == 202
    server.stop()
    indexed = [path for path in pathlib.Path(server.store).rglob("_referrers") if path.is_dir()]
    assert indexed
    for path in indexed:
        shutil.rmtree(path)
    server.start()
    with server.client() as client:
        found = by_digest(client.referrers(repo, image.digest))
        assert old in found and gone not in found
        assert found[old]["artifactType"] == "application/x-old" and found[old]["annotations"] == {"a": "b"}
        new, _ = client.push_artifact(repo, "application/x-new", image.descriptor())
        found = by_digest(client.referrers(repo, image.digest))
        assert {old, new} <= set(found)
        filtered = client.referrers(repo, image.digest, "?artifactType=application/x-old")
        assert [item["digest"] for item in filtered] == [old]
        # a client that maintains the tag by itself changes nothing of it
        client.push_manifest(repo, image.digest.replace(":", "-"), orlop.index(listed[:1]), OCI_INDEX)
        assert {old, new} <= set(by_digest(client.referrers(repo, image.digest)))


def test_FT_1_fallback_tag_is_an_ordinary_tag(client, repo):
    image = client.push_image(repo)
    tag = image.digest.replace(":", "-")
    data = orlop.index([])
    client.push_manifest(repo, tag, data, OCI_INDEX)
    assert client.get(f"/v2/{repo}/manifests/{tag}").body == data
    assert tag in client.tags(repo)
    assert client.referrers(repo, image.digest) == []
    assert client.delete(f"/v2/{repo}/manifests/{tag}").status == 202


def test_RF_broken_fallback_tag_is_ignored(client, repo):
    image = client.push_image(repo)
    client.push_manifest(repo, image.digest.replace(":", "-"), client.push_image(repo).manifest)
    digest, _ = client.push_artifact(repo, "application/x", image.descriptor())
    assert [item["digest"] for item in client.referrers(repo, image.digest)] == [digest]


def test_RF_annotations_of_odd_kinds(client, repo):
    """Annotations that are not a map of strings are refused or shown as they are, never turned into something else."""
    image = client.push_image(repo)
    client.push_blob(repo, EMPTY_JSON)
    for annotations in ({"a": 1}, ["a"], "a", {"a": {"b": "c"}}):
        data = orlop.artifact("application/x", image.descriptor(), annotations)
        answer = client.put(f"/v2/{repo}/manifests/{sha256(data)}", data, {"Content-Type": OCI_MANIFEST})
        assert answer.status in (201, 400)
        assert answer.status == 201 or answer.code == "MANIFEST_INVALID"
        listed = client.referrers(repo, image.digest)
        assert len(listed) == (answer.status == 201)
        if listed:
            assert json.dumps(listed[0]["annotations"]) == json.dumps(annotations)
            assert client.delete(f"/v2/{repo}/manifests/{sha256(data)}").status == 202


def test_RF_empty_config_type_counts_as_given(client, repo):
    image = client.push_image(repo)
    client.push_blob(repo, EMPTY_JSON)
    data = orlop.artifact(None, image.descriptor(), config_type=OCI_EMPTY)
    client.push_manifest(repo, sha256(data), data)
    assert client.referrers(repo, image.digest)[0]["artifactType"] == OCI_EMPTY
