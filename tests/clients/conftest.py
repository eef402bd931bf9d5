"""Container engines and registry clients, with all they keep in a directory of the run or of the module."""

import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

import images
import orlop
import pytest
import tools

ENGINE_START_S = 60
MEMORY_DIR = "/dev/shm"
MEMORY_BYTES_MIN = 12 << 30  # the engines unpack the system some twenty times


def memory_is_wide():
    """May engines keep their storage in memory? Their many small files and fsyncs are most of the time otherwise."""
    try:
        room = os.statvfs(MEMORY_DIR)
        with open("/proc/meminfo") as meminfo:
            available_kib = next(int(line.split()[1]) for line in meminfo if line.startswith("MemAvailable"))
    except OSError:
        return False
    return min(room.f_bavail * room.f_frsize, available_kib << 10) >= MEMORY_BYTES_MIN


@pytest.fixture(scope="session")
def engine_dir():
    """Where engines keep their storage; unmounted and removed at the end."""
    base = os.environ.get("ORLOP_TEST_TMP") or (MEMORY_DIR if memory_is_wide() else None)
    path = pathlib.Path(tempfile.mkdtemp(prefix="orlop-engines-", dir=base))
    yield path
    with open("/proc/mounts") as mounts:
        below = [line.split()[1] for line in mounts if line.split()[1].startswith(str(path))]
    for mount in sorted(below, reverse=True):
        subprocess.run(["umount", "-l", mount], capture_output=True)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def need_root():
    if os.geteuid() != 0:
        pytest.skip("container engines need root here")


class Engine:
    """A client that stores images: a command line with the options that keep it in its own place."""

    def __init__(self, name, command, environment=None, push_options=()):
        self.name = name
        self.command = command
        self.environment = environment or {}
        self.push_options = push_options

    def __call__(self, *args, **kw):
        return tools.run(*self.command, *args, env=self.environment, **kw)

    def fails(self, *args):
        return tools.fails(*self.command, *args, env=self.environment)

    def push(self, image, *args):
        return self("push", *self.push_options, *args, image)

    def pull(self, image):
        return self("pull", "-q", *self.push_options, image)

    def forget(self, *names):
        """Remove images, and every layer nobody else needs: a later pull must fetch them."""
        self("rmi", "-f", *names)

    def files(self, image):
        """What a container of the image has for a root file system."""
        container = self("create", "--network=none", image).strip().splitlines()[-1]
        try:
            process = subprocess.Popen(
                [*self.command, "export", container], stdout=subprocess.PIPE, env={**os.environ, **self.environment}
            )
            with process:
                found = images.files_of_tar(process.stdout)
            assert process.returncode == 0
            return found
        finally:
            self("rm", "-f", container)


@pytest.fixture(scope="session")
def docker(engine_dir, need_root):
    """Debian's docker engine, its daemon on a socket of its own."""
    program, daemon = tools.debian_program("docker"), tools.debian_program("dockerd")
    home = engine_dir / "docker"
    home.mkdir()
    socket = f"unix://{home}/docker.sock"
    environment = {"DOCKER_HOST": socket, "DOCKER_CONFIG": str(home / "config"), "DOCKER_BUILDKIT": "0"}
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(
            [
                *(
                    "setpriv",
                    "--pdeathsig",
                    "TERM",
                    "--",
                    daemon,
                    "--bridge=none",
                    "--iptables=false",
                    "--ip6tables=false",
                ),
                *(f"--data-root={home}/data", f"--exec-root={home}/exec", f"--pidfile={home}/pid", "-H", socket),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    engine = Engine("docker", [program], environment)

    def answers():
        assert process.poll() is None, (home / "log").read_text()[-3000:]
        try:
            return engine("version")
        except tools.CommandError:
            return None

    try:
        orlop.wait_until(answers, timeout=ENGINE_START_S, interval=0.2)
        yield engine
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def containers_engine(engine_dir, name):
    """podman or buildah: daemonless, with its storage in a directory of its own."""
    program = tools.debian_program(name)
    home = engine_dir / name
    home.mkdir(exist_ok=True)
    command = [program, "--root", home / "root", "--runroot", home / "run", "--storage-driver", "overlay"]
    if name == "podman":
        command += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
    (home / "auth.json").write_text("{}")
    environment = {"REGISTRY_AUTH_FILE": str(home / "auth.json"), "TMPDIR": str(home)}
    return Engine(name, [str(part) for part in command], environment, ["--tls-verify=false"])


@pytest.fixture(scope="session")
def podman(engine_dir, need_root):
    return containers_engine(engine_dir, "podman")


@pytest.fixture(scope="session")
def buildah(engine_dir, need_root):
    return containers_engine(engine_dir, "buildah")


@pytest.fixture(scope="session")
def skopeo(engine_dir):
    """skopeo with plain HTTP on both sides: skopeo("copy", …)."""
    program = tools.debian_program("skopeo")
    authorization = engine_dir / "skopeo-auth.json"
    authorization.write_text("{}")
    environment = {"REGISTRY_AUTH_FILE": str(authorization), "TMPDIR": str(engine_dir)}

    def skopeo(verb, *args, fails=False):
        sides = {"copy": ["--src-tls-verify=false", "--dest-tls-verify=false"], "login": ["--tls-verify=false"]}
        options = sides.get(verb, ["--tls-verify=false"])
        command = [program, "--insecure-policy", verb, *options, *args]
        return (tools.fails if fails else tools.run)(*command, env=environment)

    return skopeo


def go_client(name, home, *options, **environment):
    """A function that runs a client written in Go, with all it keeps below home, and gives its stdout."""
    path = tools.go_program(name)
    settings = {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "DOCKER_CONFIG": str(home), **environment}

    def run(*args, fails=False, env=None, **kw):
        return (tools.fails if fails else tools.run)(path, *args, *options, env={**settings, **(env or {})}, **kw)

    return run


@pytest.fixture
def crane(module_dir):
    return go_client("crane", module_dir, "--insecure")


@pytest.fixture
def oras(module_dir):
    return go_client("oras", module_dir)


@pytest.fixture
def regctl(module_dir, server):
    run = go_client("regctl", module_dir, REGCTL_CONFIG=str(module_dir / f"regctl-{server.port}.json"))
    run("registry", "set", "--tls", "disabled", "--skip-check", server.host)
    return run


@pytest.fixture
def helm(module_dir):
    homes = {f"HELM_{what}_HOME": str(module_dir / what.lower()) for what in ("CACHE", "CONFIG", "DATA")}
    return go_client("helm", module_dir, **homes)


@pytest.fixture
def cosign(module_dir):
    """cosign, without a way to the services of sigstore.dev, which it asks for by itself."""
    run = go_client("cosign", module_dir, COSIGN_PASSWORD="orlop", HTTPS_PROXY="http://127.0.0.1:9")

    def cosign(verb, *args, **kw):
        offline = verb in ("generate-key-pair", "trusted-root")
        return run(verb, *(() if offline else ("--allow-insecure-registry", "--allow-http-registry")), *args, **kw)

    return cosign


@pytest.fixture(scope="session")
def build_context(engine_dir):
    """A Dockerfile that puts the real system together from its layers."""
    context = engine_dir / "context"
    context.mkdir()
    lines = ["FROM scratch"]
    for layer in images.layers():
        os.link(layer, context / layer.name) if same_device(layer, context) else shutil.copy(layer, context)
        lines.append(f"ADD {layer.name} /")
    lines.append('CMD ["/bin/cat", "/etc/debian_version"]')
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    return context


def same_device(one, other):
    return os.stat(one).st_dev == os.stat(other).st_dev


@pytest.fixture(scope="session")
def expected_files():
    return images.files()


@pytest.fixture(scope="session")
def debian_version():
    with tarfile.open(images.root_file_system()) as archive:
        return archive.extractfile("./etc/debian_version").read().decode()
