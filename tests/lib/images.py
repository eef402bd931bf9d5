"""
Real images: a Debian root file system, made once by mmdebstrap from the machine's own package sources and kept below
build/testdata, and cut into layers.
"""

import contextlib
import fcntl
import gzip
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

import orlop

ROOT_FS_BYTES_MIN = 100_000_000
LAYERS = ("usr/lib", "usr/share", "usr", "")  # by prefix; the first that fits takes the file


def cache_dir():
    path = pathlib.Path(os.environ.get("ORLOP_TEST_CACHE") or orlop.ROOT / "build" / "testdata")
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(path):
    """One process at a time makes what is kept at path."""
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def release_name():
    """The Debian release this machine runs: "bookworm"."""
    text = pathlib.Path("/etc/os-release").read_text()
    return re.search(r"^VERSION_CODENAME=(\w+)", text, re.MULTILINE)[1]


def package_sources(suite):
    """The machine's package sources of this release (and of nobody else), in deb822 form."""
    stanzas = []
    folder = pathlib.Path("/etc/apt")
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        if path.suffix == ".sources":
            text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)
            for stanza in re.split(r"\n\s*\n", text):
                suites = re.search(r"^Suites:(.*)", stanza, re.MULTILINE)
                if suites and any(name.split("-")[0] == suite for name in suites[1].split()):
                    stanzas.append(re.sub(r"^Types:.*", "Types: deb", stanza.strip(), flags=re.MULTILINE))
        elif path.suffix == ".list":
            for line in path.read_text().splitlines():
                found = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)", line)
                if found and found[2].split("-")[0] == suite:
                    stanzas.append(f"Types: deb\nURIs: {found[1]}\nSuites: {found[2]}\nComponents: {found[3]}")
    assert stanzas, "this machine has no package sources of its own release"
    return "\n\n".join(stanzas) + "\n"


def make_root_file_system(out):
    suite = release_name()
    sources = out.with_suffix(".sources")
    sources.write_text(package_sources(suite))
    partial = out.with_suffix(".partial.tar")
    try:
        # no devices, and nothing that only root could unpack
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", "--include=perl,ca-certificates", suite, partial, sources],
            check=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "DEBIAN_FRONTEND": "noninteractive"},
            timeout=600,
        )
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
        sources.unlink(missing_ok=True)


def root_file_system():
    """The path of a tar of a whole Debian system, over 100 MB."""
    path = cache_dir() / "debian-root.tar"
    with locked(path):
        if not path.exists():
            make_root_file_system(path)
    assert path.stat().st_size > ROOT_FS_BYTES_MIN
    return path


def layer_of(name):
    name = name.removeprefix("./")
    return next(i for i, prefix in enumerate(LAYERS) if name == prefix or name.startswith(prefix + "/") or not prefix)


def layers():
    """The system cut into tars, one a layer, without device files; their paths, the lowest layer first."""
    folder = cache_dir() / "debian-layers"
    with locked(folder):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            cut(root_file_system(), partial)
            partial.rename(folder)
    return sorted(folder.glob("*.tar"))


def cut(source, folder):
    with contextlib.ExitStack() as stack:
        whole = stack.enter_context(tarfile.open(source))
        parts = [
            stack.enter_context(tarfile.open(folder / f"layer{i}.tar", "w", format=tarfile.PAX_FORMAT))
            for i in range(len(LAYERS))
        ]
        homes = {}  # where a file went: a hard link must follow it
        for member in whole:
            if member.isdev():
                continue
            name = member.name.removeprefix("./")
            if not name or name == ".":
                continue
            place = layer_of(name)
            if member.islnk():
                place = homes.get(member.linkname.removeprefix("./"), place)
            homes[name] = place
            parts[place].addfile(member, whole.extractfile(member) if member.isreg() else None)


# What engines put into a container's file system by themselves.
ENGINE_FILES = re.compile(
    r"(\.dockerenv|dev|proc|sys|run|etc/(hostname|hosts|resolv\.conf|mtab)|run/\.containerenv|run/secrets)(/.*)?$"
)


def files_of_tar(stream):
    """Every file of a flattened root file system as "name mode owner what", sorted; engines' own files left out."""
    entries, content = {}, {}
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            name = member.name.removeprefix("./").strip("/")
            if not name or name == "." or member.isdev() or ENGINE_FILES.match(name):
                continue
            mode = member.mode & 0o7777
            if member.isreg():
                content[name] = orlop.sha256(archive.extractfile(member).read())
                what = "file " + content[name]
            elif member.islnk():
                target = member.linkname.removeprefix("./").strip("/")
                content[name] = content[target]
                what, mode = "file " + content[target], int(entries[target].split("\t")[0], 8)
            elif member.issym():
                what, mode = "link " + member.linkname, 0
            else:
                what = "directory"
            entries[name] = f"{mode:o}\t{member.uid}:{member.gid}\t{what}"
    return [f"{name}\t{entry}" for name, entry in sorted(entries.items())]


def files():
    """The files every unpacked copy of the image must have."""
    with open(root_file_system(), "rb") as stream:
        return files_of_tar(stream)


def oci_layout():
    """The system as an OCI image layout, tagged "debian", with gzip layers: for clients without a builder."""
    folder = cache_dir() / "debian-oci"
    with locked(folder):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            write_layout(layers(), partial)
            partial.rename(folder)
    return folder


def write_layout(tars, folder):
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data, media_type):
        item = orlop.descriptor(data, media_type)
        (blobs / item["digest"].split(":")[1]).write_bytes(data)
        return item

    diff_ids, descriptors = [], []
    for tar in tars:
        data = tar.read_bytes()
        diff_ids.append(orlop.sha256(data))
        descriptors.append(put(gzip.compress(data, 1, mtime=0), orlop.OCI_LAYER))
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = {
        "architecture": machine, "os": "linux", "config": {"Cmd": ["/bin/cat", "/etc/debian_version"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "created": "2024-01-01T00:00:00Z",
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "orlop test"} for _ in tars],
    }  # fmt: skip
    manifest = orlop.manifest(put(orlop.encode(config), orlop.OCI_CONFIG), descriptors)
    listed = put(manifest, orlop.OCI_MANIFEST)
    listed["annotations"] = {"org.opencontainers.image.ref.name": "debian"}
    (folder / "index.json").write_bytes(orlop.index([listed]))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
