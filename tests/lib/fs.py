"""File systems to break: small ones to fill, ones that turn read-only, ones that vanish. All need root."""

import contextlib
import os
import pathlib
import subprocess

import orlop
import pytest


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)


def need_root():
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")


@contextlib.contextmanager
def tmpfs(mib):
    """A mounted tmpfs of so many MiB; its path."""
    need_root()
    path = orlop.temp_dir("orlop-mnt-")
    try:
        run("mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", path)
    except subprocess.CalledProcessError as error:
        os.rmdir(path)
        pytest.skip(f"cannot mount a tmpfs here: {error.stderr.strip()}")
    try:
        yield pathlib.Path(path)
    finally:
        subprocess.run(["umount", "-l", path], capture_output=True)
        os.rmdir(path)


class LoopExt4:
    """An ext4 image that can be mounted and unmounted; unmounting leaves the empty mount point."""

    def __init__(self, mib):
        need_root()
        self.dir = pathlib.Path(orlop.temp_dir("orlop-ext4-"))
        self.image, self.mount_point = self.dir / "image", self.dir / "mnt"
        self.mount_point.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(mib << 20)
        run("mkfs.ext4", "-q", "-m", "0", "-F", str(self.image))
        self.mounted = False

    def mount(self):
        try:
            run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.mount_point))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"cannot mount a loop device here: {error.stderr.strip()}")
        self.mounted = True

    def unmount(self, lazy=False):
        run("umount", *(["-l"] if lazy else []), str(self.mount_point))
        self.mounted = False

    def fail_to_read_only(self):
        """What a failing disk does to ext4: every write from now on is EROFS."""
        device = run("findmnt", "-n", "-o", "SOURCE", str(self.mount_point)).stdout.strip()
        trigger = pathlib.Path("/sys/fs/ext4") / os.path.basename(device) / "trigger_fs_error"
        trigger.write_text("1\n")

    def remount_writable(self):
        run("mount", "-o", "remount,rw", str(self.mount_point))

    def close(self):
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.mount_point)], capture_output=True)
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.dir)], check=False)


@contextlib.contextmanager
def ext4(mib):
    disk = LoopExt4(mib)
    try:
        disk.mount()
        yield disk
    finally:
        disk.close()
