#!/usr/bin/env python3
"""
A single-node OpenStack Swift with its S3 API on loopback, from Debian's packages: an S3 server without conditional writes.

    tests/lib/swift.py -- COMMAND…

runs COMMAND with the server's address, keys and a new bucket in its environment (AWS_…, ORLOP_TEST_S3=s3://BUCKET), ends
the server afterwards, and exits as COMMAND did. Everything lives in one temporary directory; of the system only
/etc/swift/swift.conf, the package's own, is read.
"""

import argparse
import os
import pathlib
import pwd
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import orlop  # noqa: E402  (the path is set above)
import s3server  # noqa: E402
from s3server import CannotStart  # noqa: E402

EXIT_SKIPPED = 77
RINGS = ("account", "container", "object")
SYSTEM_CONFIGURATION = "/etc/swift/swift.conf"  # Swift finds it nowhere else
DEBIAN_PYTHON = "/usr/bin/python3"
# swift-ring-builder's work without its nine starts of Python.
MAKE_RINGS = """
import sys
from swift.common.ring import RingBuilder
for name, port in (argument.split(":") for argument in sys.argv[1:]):
    builder = RingBuilder(part_power=6, replicas=1, min_part_hours=1)
    place = {"id": 0, "region": 1, "zone": 1, "weight": 1.0, "ip": "127.0.0.1", "port": int(port), "device": "d1"}
    builder.add_dev({**place, "replication_ip": "127.0.0.1", "replication_port": int(port)})
    builder.rebalance()
    builder.get_ring().save(name + ".ring.gz")
"""
# In this order: s3api needs what stands before and after it.
PIPELINE = (
    *("catch_errors", "gatekeeper", "healthcheck", "cache", "listing_formats", "bulk", "s3api", "tempauth"),
    *("slo", "dlo", "versioned_writes", "symlink"),
)
MIDDLEWARE_SETTINGS = {
    "s3api": {"location": "us-east-1", "min_segment_size": 5 << 20},
    "tempauth": {"user_orlop_test": "orlop-test-secret-key .admin"},
}


class Swift(s3server.S3Server):
    """One server each for accounts, containers and objects, and the proxy that speaks S3."""

    name = "swift"
    access_key, secret_key = "orlop:test", "orlop-test-secret-key"
    programs = (DEBIAN_PYTHON, "memcached", "swift-proxy-server", *(f"swift-{ring}-server" for ring in RINGS))

    def base_folder(self):
        """Swift keeps what it knows of an object in extended attributes, which memory has on newer kernels only."""
        folder = super().base_folder()
        return folder if folder and has_attributes(folder) else os.environ.get("ORLOP_TEST_DISK", "/var/tmp")

    def launch(self):
        if not os.access(SYSTEM_CONFIGURATION, os.R_OK):
            raise CannotStart(f"{SYSTEM_CONFIGURATION} cannot be read")
        if not has_attributes(self.folder):
            raise CannotStart(f"the file system of {self.folder} has no extended attributes")
        (self.folder / "devices" / "d1").mkdir(parents=True)
        cache_port = orlop.free_port()
        self.daemon("cache", "memcached", "-l", "127.0.0.1", "-p", str(cache_port), "-u", user_name())
        ports = {ring: orlop.free_port() for ring in RINGS}
        self.run(DEBIAN_PYTHON, "-c", MAKE_RINGS, *(f"{ring}:{port}" for ring, port in ports.items()))
        for ring, port in ports.items():
            self._server(ring, port, {f"app:{ring}-server": {"use": f"egg:swift#{ring}"}}, ("healthcheck",))
        sections = {f"filter:{name}": {"use": f"egg:swift#{name.replace('cache', 'memcache')}"} for name in PIPELINE}
        for name, settings in MIDDLEWARE_SETTINGS.items():
            sections[f"filter:{name}"].update(settings)
        sections["filter:cache"]["memcache_servers"] = f"127.0.0.1:{cache_port}"
        sections["app:proxy-server"] = {"use": "egg:swift#proxy", "account_autocreate": "true"}
        self._server("proxy", self.port, sections, PIPELINE)
        for name, port in {**ports, "proxy": self.port}.items():
            self.wait_for_answer(name, f"http://127.0.0.1:{port}/healthcheck")

    def _server(self, name, port, sections, pipeline):
        """Write a server's configuration and start it, as one process."""
        sections = {
            "DEFAULT": {
                "bind_ip": "127.0.0.1",
                "bind_port": port,
                "user": user_name(),
                "swift_dir": self.folder,
                "devices": self.folder / "devices",
                "mount_check": "false",
                "workers": 0,
                "log_address": "/nonexistent",  # not to the system's log
                "log_level": "WARNING",
            },
            "filter:healthcheck": {"use": "egg:swift#healthcheck"},
            "pipeline:main": {"pipeline": " ".join((*pipeline, f"{name}-server"))},
            **sections,
        }
        lines = []
        for section, settings in sections.items():
            lines += [f"[{section}]", *(f"{key} = {value}" for key, value in settings.items()), ""]
        path = self.folder / f"{name}.conf"
        path.write_text("\n".join(lines))
        self.daemon(name, f"swift-{name}-server", path)


def user_name():
    return pwd.getpwuid(os.geteuid()).pw_name


def has_attributes(folder):
    path = pathlib.Path(folder) / f".orlop-test-{os.getpid()}"
    try:
        path.touch()
        os.setxattr(path, b"user.orlop", b"test")
        return True
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with Swift() as server, s3server.in_environment(server):
            return subprocess.run(arguments.command, check=False).returncode
    except CannotStart as reason:
        print(f"skipped: no Swift can be started here: {reason}", file=sys.stderr)
        return EXIT_SKIPPED


if __name__ == "__main__":
    sys.exit(main())
