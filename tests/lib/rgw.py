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
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import orlop  # noqa: E402  (the path is set above)

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
ACCESS_KEY, SECRET_KEY, REGION = "orloptest", "orlop-test-secret-key", "us-east-1"
START_TRIES = 3
START_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 60
OSD_STARTS_MAX = 10
REMOVE_TIMEOUT_S = 600
MEMSTORE_BYTES = 8 << 30
BLUESTORE_BYTES = 64 << 30
EXIT_SKIPPED = 77
MEMORY_FOLDER = "/dev/shm"


def version():
    """The gateway's release ("16.2.15")."""
    return subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]


class CannotStart(Exception):
    """There can be no gateway on this machine; says why."""


class Rgw:
    """The three daemons. Use as a context manager."""

    def __init__(self, port=0, mon_port=0, objectstore="memstore", base=None):
        self.port_wanted, self.mon_port_wanted = port, mon_port
        self.port = port or orlop.free_port()
        self.mon_port = mon_port or orlop.free_port()
        self.objectstore = objectstore
        self.base = base  # where the temporary directory is made
        self.folder = None
        self.processes = {}
        self.buckets = 0

    def __enter__(self):
        self._require()
        for tries_left in reversed(range(START_TRIES)):
            try:
                return self.start()
            except CannotStart:
                self.stop()
                if not tries_left:
                    raise
                # A port was taken between its choice and its use, or a daemon got stuck.
                self.port = self.port_wanted or orlop.free_port()
                self.mon_port = self.mon_port_wanted or orlop.free_port()
            except BaseException:
                self.stop()
                raise
        raise AssertionError("unreachable")

    def __exit__(self, *_):
        self.stop()

    # ---- what a test needs to know ----

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def environment(self):
        """What an S3 client reads. Settings of the user who runs the tests are kept out of it."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_bucket(self):
        """The name of a new, empty bucket."""
        self.buckets += 1
        name = f"orlop-{os.getpid()}-{self.buckets}"
        request = ["curl", "-sS", "--fail", "-o", os.devnull, "-X", "PUT", f"{self.url}/{name}"]
        keys = ["--aws-sigv4", f"aws:amz:{REGION}:s3", "-u", f"{ACCESS_KEY}:{SECRET_KEY}"]
        self._run(*request, *keys, "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD")
        return name

    def remove_bucket(self, name):
        """The bucket with all that is in it, unfinished uploads too; its room is free when this returns."""
        self._ceph("radosgw-admin", "bucket", "rm", "--bucket", name, "--purge-objects", timeout_s=REMOVE_TIMEOUT_S)
        self._ceph("radosgw-admin", "gc", "process", "--include-all", timeout_s=REMOVE_TIMEOUT_S)

    # ---- life ----

    def start(self):
        # The monitor's database syncs every write: in memory that costs nothing.
        in_memory = self.objectstore == "memstore" and os.access(MEMORY_FOLDER, os.W_OK)
        base = MEMORY_FOLDER if in_memory and not self.base else self.base
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="orlop-rgw-", dir=base))
        for name in ("mon", "osd", "rgw", "run", "log"):
            (self.folder / name).mkdir()
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        (self.folder / "ceph.conf").write_text(self._configuration(fsid))

        monmap = self.folder / "monmap"
        mon_address = f"[v1:127.0.0.1:{self.mon_port}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", mon_address, str(monmap))
        self._ceph("ceph-mon", "-i", "a", "--mkfs", "--monmap", str(monmap))
        self._daemon("mon", "ceph-mon", "-i", "a")
        self._ceph("ceph", "--connect-timeout", "30", "osd", "new", osd, "0")
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("osd", "ceph-osd", "-i", "0")
        self._add_user()
        self.start_gateway()
        return self

    def _add_user(self):
        """
        The first command that needs the object store daemon, and waits for it. One that asks the monitor before it has
        heard of the cluster is told "wrong fsid" and ends: it is then started again.
        """
        user = ("--uid", "orlop", "--display-name", "orlop", "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
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
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.url, timeout=5).read()
                return
            self._assert_running("rgw")
            if time.monotonic() > deadline:
                raise CannotStart(f"the gateway does not answer:\n{self._log_tail('rgw')}")
            time.sleep(0.1)

    def kill_gateway(self):
        process = self.processes.pop("rgw")
        process.kill()
        process.wait()

    def stop(self):
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes.clear()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _require(self):
        if os.geteuid() != 0:
            raise CannotStart("Ceph's programs need root")
        missing = [name for name in PROGRAMS if not shutil.which(name)]
        if missing:
            raise CannotStart(f"not installed: {', '.join(missing)} (packaging/install-deps.sh test)")

    def _daemon(self, name, *command):
        with open(self.folder / "log" / f"{name}.output", "ab") as output:
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command, "-f", "-c", str(self.folder / "ceph.conf")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _assert_running(self, name):
        status = self.processes[name].poll()
        if status is not None:
            raise CannotStart(f"{name} ended with {status}:\n{self._log_tail(name)}")

    def _log_tail(self, name):
        return (self.folder / "log" / f"{name}.output").read_text(errors="replace")[-3000:]

    def _ceph(self, program, *arguments, **options):
        self._run(program, "-c", str(self.folder / "ceph.conf"), *arguments, **options)

    def _run(self, *command, timeout_s=COMMAND_TIMEOUT_S, meanwhile=lambda: None):
        """Run it to its end; meanwhile() is called again and again until then."""
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            deadline = time.monotonic() + timeout_s
            while process.poll() is None:
                if time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    raise CannotStart(f"{command[0]} hangs")
                meanwhile()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
            if process.returncode != 0:
                output.seek(0)
                raise CannotStart(f"{command[0]}: {output.read().decode(errors='replace')[-2000:]}")

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
    with Rgw(**settings) as gateway:
        changes = {**gateway.environment(), "ORLOP_TEST_S3": f"s3://{gateway.new_bucket()}"}
        before = {name: os.environ.get(name) for name in changes}
        os.environ.update(changes)
        try:
            yield gateway
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


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
