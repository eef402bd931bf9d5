#!/usr/bin/env python3
"""
A single-node Ceph with its S3 gateway (RGW) on loopback, from Debian's packages: a real S3 server for tests.

    tests/lib/rgw.py [--port N] [--mon-port N] [--objectstore memstore|bluestore] -- COMMAND…

runs COMMAND with the gateway's address, keys and a new bucket in its environment (AWS_…, ORLOP_TEST_S3=s3://BUCKET),
ends the gateway afterwards, and exits as COMMAND did. Everything lives in one temporary directory; no daemon of the
system, and nothing of its configuration, is touched. It needs root, because Ceph's programs do.
"""

import argparse
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import orlop  # noqa: E402  (the path is set above)
import s3server  # noqa: E402
from s3server import CannotStart  # noqa: E402

START_TRIES = 3
OSD_STARTS_MAX = 10
REMOVE_TIMEOUT_S = 600
MEMSTORE_BYTES = 8 << 30
BLUESTORE_BYTES = 64 << 30
EXIT_SKIPPED = 77


def version():
    """The gateway's release ("16.2.15")."""
    return subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]


class Rgw(s3server.S3Server):
    """The three daemons. Use as a context manager."""

    name = "rgw"
    access_key, secret_key = "orloptest", "orlop-test-secret-key"
    programs = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")

    def __init__(self, port=0, mon_port=0, objectstore="memstore", base=None):
        super().__init__(port)
        self.port_wanted, self.mon_port_wanted = port, mon_port
        self.mon_port = mon_port or orlop.free_port()
        self.objectstore = objectstore
        self.base = base  # where the temporary directory is made

    def __enter__(self):
        if os.geteuid() != 0:
            raise CannotStart("Ceph's programs need root")
        for tries_left in reversed(range(START_TRIES)):
            try:
                return super().__enter__()
            except CannotStart:
                if not tries_left:
                    raise
                # A port was taken between its choice and its use, or a daemon got stuck.
                self.port = self.port_wanted or orlop.free_port()
                self.mon_port = self.mon_port_wanted or orlop.free_port()
        raise AssertionError("unreachable")

    def base_folder(self):
        """The monitor's database syncs every write: in memory that costs nothing."""
        return self.base or (super().base_folder() if self.objectstore == "memstore" else None)

    def remove_bucket(self, name):
        """The bucket with all that is in it, unfinished uploads too; its room is free when this returns."""
        self._ceph("radosgw-admin", "bucket", "rm", "--bucket", name, "--purge-objects", timeout_s=REMOVE_TIMEOUT_S)
        self._ceph("radosgw-admin", "gc", "process", "--include-all", timeout_s=REMOVE_TIMEOUT_S)

    # ---- life ----

    def launch(self):
        for name in ("mon", "osd", "rgw", "run"):
            (self.folder / name).mkdir()
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        (self.folder / "ceph.conf").write_text(self._configuration(fsid))

        monmap = self.folder / "monmap"
        mon_address = f"[v1:127.0.0.1:{self.mon_port}]"
        self.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", mon_address, str(monmap))
        self._ceph("ceph-mon", "-i", "a", "--mkfs", "--monmap", str(monmap))
        self._daemon("mon", "ceph-mon", "-i", "a")
        self._ceph("ceph", "--connect-timeout", "30", "osd", "new", osd, "0")
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("osd", "ceph-osd", "-i", "0")
        self._add_user()
        self.start_gateway()

    def _add_user(self):
        """
        The first command that needs the object store daemon, and waits for it. One that asks the monitor before it has
        heard of the cluster is told "wrong fsid" and ends: it is then started again.
        """
        user = ("--uid", "orlop", "--display-name", "orlop", "--access-key", self.access_key)
        user += ("--secret-key", self.secret_key)
        starts = 1

        def mend():
            nonlocal starts
            if self.processes["osd"].poll() is not None and starts < OSD_STARTS_MAX:
                starts += 1
                self._daemon("osd", "ceph-osd", "-i", "0")

        self._ceph("radosgw-admin", "user", "create", *user, meanwhile=mend)

    def start_gateway(self):
        """The gateway alone (again): what it has said is stored is in the object store daemon."""
        self._daemon("rgw", "radosgw", "-n", "client.rgw.a")
        self.wait_for_answer("rgw")

    def kill_gateway(self):
        process = self.processes.pop("rgw")
        process.kill()
        process.wait()

    def _daemon(self, name, *command):
        self.daemon(name, *command, "-f", "-c", self.folder / "ceph.conf")

    def _ceph(self, program, *arguments, **options):
        self.run(program, "-c", str(self.folder / "ceph.conf"), *arguments, **options)

    def _configuration(self, fsid):
        """One of everything, no authentication between the daemons, nothing that works in the background for long."""
        folder = self.folder
        sections = {
            "global": {
                "fsid": fsid,
                "mon host": f"v1:127.0.0.1:{self.mon_port}",
                "mon initial members": "a",
                "public addr": "127.0.0.1",
                "cluster addr": "127.0.0.1",
                "ms bind ipv6": "false",
                "ms bind msgr2": "false",
                "auth cluster required": "none",
                "auth service required": "none",
                "auth client required": "none",
                "run dir": folder / "run",
                "pid file": folder / "run/$name.pid",
                "admin socket": folder / "run/$name.asok",
                "log file": folder / "log/$name.log",
                "crash dir": folder / "log",
                "osd pool default size": 1,
                "osd pool default min size": 1,
                "osd pool default pg num": 4,
                "osd pool default pgp num": 4,
                "osd pool default pg autoscale mode": "off",
                "osd crush chooseleaf type": 0,
                "mon max pg per osd": 10000,
                "mon allow pool size one": "true",
            },
            "mon": {
                "mon data": folder / "mon",
                "mon cluster log file": folder / "log/cluster.log",
                "mon data avail warn": 2,
                "mon data avail crit": 1,
                "paxos propose interval": 0.05,
                "paxos min wait": 0.01,
            },
            "osd": {
                "osd data": folder / "osd",
                "osd objectstore": self.objectstore,
                "memstore device bytes": MEMSTORE_BYTES,
                "bluestore block size": BLUESTORE_BYTES,
                "bluestore block create": "true",
                "osd class update on start": "false",
                "osd max object name len": 2048,
            },
            "client.rgw.a": {
                "rgw data": folder / "rgw",
                "rgw frontends": f"beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1",
                "rgw thread pool size": 64,
                "rgw enable usage log": "false",
                "rgw enable ops log": "false",
                "rgw gc obj min wait": 5,
                "rgw gc processor period": 5,
                "rgw override bucket index max shards": 1,
                "rgw dynamic resharding": "false",
            },
            "client": {"rgw rados pool pg num min": 4},
        }
        lines = []
        for section, settings in sections.items():
            lines += [f"[{section}]", *(f"{name} = {value}" for name, value in settings.items()), ""]
        return "\n".join(lines)


@contextlib.contextmanager
def running(**settings):
    """
    os.environ names a gateway and a bucket: those that are there already, else ones started for as long as this lasts.
    The Rgw when it was started here.
    """
    if os.environ.get("ORLOP_TEST_S3"):
        yield None
        return
    with Rgw(**settings) as gateway, s3server.in_environment(gateway):
        yield gateway


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--mon-port", type=int, default=0)
    parser.add_argument("--objectstore", choices=("memstore", "bluestore"), default="memstore")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    started = time.monotonic()
    try:
        with running(port=arguments.port, mon_port=arguments.mon_port, objectstore=arguments.objectstore):
            print(f"gateway ready after {time.monotonic() - started:.1f} s", file=sys.stderr)
            return subprocess.run(arguments.command, check=False).returncode
    except CannotStart as reason:
        print(f"skipped: no S3 gateway can be started here: {reason}", file=sys.stderr)
        return EXIT_SKIPPED


if __name__ == "__main__":
    sys.exit(main())
