"""
A single-node MinIO on loopback. Debian has none: the program is built from its Go module, which takes minutes. So there
is one only where it is installed, or was once built into build/tools, as the full run does.
"""

import shutil

import orlop
import s3server
from s3server import CannotStart

MODULE = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"


class Minio(s3server.S3Server):
    name = "minio"
    access_key, secret_key = "orloptest", "orlop-test-secret-key"

    def launch(self):
        (self.folder / "data").mkdir()
        keys = {"MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key}
        settings = {**keys, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "HOME": str(self.folder)}
        address = ("--address", f"127.0.0.1:{self.port}", self.folder / "data")
        self.daemon("minio", find_program(), "server", "--quiet", *address, environment=settings)
        self.wait_for_answer("minio", f"{self.url}/minio/health/ready")


def find_program():
    import tools  # needs pytest, which who only wants to know that there is no MinIO may not have

    built = tools.tools_dir() / "minio"
    if built.exists():
        return built
    if found := shutil.which("minio"):
        return found
    if not orlop.full_run():
        raise CannotStart("minio is not installed, and only the full run builds it")
    if not tools.go():
        raise CannotStart("minio is not installed, and there is no Go to build it with")
    if reason := tools.go_install(MODULE):
        raise CannotStart(f"minio cannot be built: {reason}")
    return built
