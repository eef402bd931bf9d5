"""Other registries, which are measured when they are found: on PATH, or in a file of `name = program` lines."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import s3
from .servers import DockerRegistry, Server, first_line


@dataclass
class RegistryV3(DockerRegistry):
    """distribution 3: the settings of docker-registry, which it still reads."""

    program: str = "registry"


@dataclass
class Zot(Server):
    program: str = "zot"

    def prepare(self) -> None:
        # Its deduplication wants a database of its own beside S3.
        storage: dict = {"rootDirectory": str(self.store), "dedupe": self.bucket is None, "gc": False}
        if self.bucket:
            storage["storageDriver"] = {
                "name": "s3",
                "rootdirectory": "/zot",
                "region": s3.REGION,
                "regionendpoint": self.bucket.proxy.url,
                "forcepathstyle": True,
                "bucket": self.bucket.name,
                "accesskey": s3.ACCESS_KEY,
                "secretkey": s3.SECRET_KEY,
                "secure": False,
                "skipverify": False,
            }
        settings = {
            "distSpecVersion": "1.1.0",
            "storage": storage,
            "http": {"address": "127.0.0.1", "port": str(self.port)},
            "log": {"level": "warn"},
        }
        (self.directory / "config.json").write_text(json.dumps(settings, indent=1))

    def arguments(self) -> list[str]:
        return [self.program, "serve", str(self.directory / "config.json")]

    def version(self) -> str:
        return first_line([self.program, "--version"])


@dataclass
class Angos(Server):
    program: str = "angos"

    def prepare(self) -> None:
        (self.directory / "config.toml").write_text(
            f'[server]\nbind_address = "127.0.0.1"\nport = {self.port}\n'
            "[global]\nenable_blob_redirect = false\nenable_manifest_redirect = false\n"
            f'{self._blob_store()}[global.access_policy]\ndefault = "allow"\n[repository."bench"]\n'
        )

    def _blob_store(self) -> str:
        if not self.bucket:
            return f'[blob_store.fs]\nroot_dir = "{self.store}"\n'
        return (
            f'[blob_store.s3]\naccess_key_id = "{s3.ACCESS_KEY}"\nsecret_key = "{s3.SECRET_KEY}"\n'
            f'endpoint = "{self.bucket.proxy.url}"\nbucket = "{self.bucket.name}"\nregion = "{s3.REGION}"\n'
        )

    def arguments(self) -> list[str]:
        return [self.program, "-c", str(self.directory / "config.toml"), "server"]

    def version(self) -> str:
        return first_line([self.program, "--version"])


KINDS = {"registry": ("registry v3", RegistryV3), "zot": ("zot", Zot), "angos": ("angos", Angos)}


def find(file: Path) -> dict[str, str]:
    """The program of each kind that is there. A line in the file wins over PATH; `name =` leaves that one out."""
    found = {name: program for name in KINDS if (program := shutil.which(name))}
    if "registry" in found and "distribution" not in _help(found["registry"]):
        del found["registry"]  # another program of that name
    for line in file.read_text().splitlines() if file.exists() else ():
        name, is_setting, program = (part.strip() for part in line.partition("#")[0].partition("="))
        if not is_setting:
            continue
        if name not in KINDS:
            raise SystemExit(f"{file}: {name}: not one of {', '.join(KINDS)}")
        found[name] = program
    return {name: program for name, program in found.items() if program}


def _help(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
    return done.stdout + done.stderr
