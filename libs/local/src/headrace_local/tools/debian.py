"""Redis as Debian packages it, for tests against a server that is not Valkey.

The packages are unpacked, not installed: installing would start a service on Redis's own port.
It needs no root and changes nothing on the machine.
"""

import re
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from headrace_local.errors import ToolInstallError
from headrace_local.tools.apt import Apt, require_apt
from headrace_local.tools.install import ensure, run

_PACKAGES: Final = ("redis-server", "redis-tools")
_PROGRAMS: Final = ("redis-server", "redis-cli")
#: Major version of an installed server that will do.
_MAJOR: Final = "7"


def ensure_debian_redis() -> Path:
    """Return Debian's redis-server, unpacked where it is missing; redis-cli lies beside it.

    A Redis 7 that is installed already is taken as it is.

    Raises:
        ToolInstallError: this is no Debian or Ubuntu, or the packages cannot be had.
    """
    installed = _installed()
    return installed or ensure("redis", "debian", _install) / "bin" / _PROGRAMS[0]


def _installed() -> Path | None:
    found = [shutil.which(program) for program in _PROGRAMS]
    server = Path(found[0]) if found[0] and found[1] else None
    if server is None or not (server.parent / _PROGRAMS[1]).exists():
        return None
    version = re.search(r"\bv=(\d+)\.", run(server, "--version"))
    return server if version and version[1] == _MAJOR else None


def _install(home: Path) -> None:
    require_apt("Redis", otherwise="install redis-server 7 some other way")
    archives, root = home / "archives", home / "root"
    for directory in (archives, root, home / "bin"):
        directory.mkdir(parents=True)
    apt = Apt(home / "apt", archives)
    packages = list(_PACKAGES)
    for package in packages:  # grows meanwhile
        archive = apt.download(package)
        run("dpkg-deb", "--extract", archive, root)
        if _missing_libraries(root):
            packages += [name for name in _libraries_of(archive) if name not in packages]
    missing = _missing_libraries(root)
    if missing:
        raise ToolInstallError(f"Debian's Redis lacks the libraries {', '.join(sorted(missing))}")
    for program in _PROGRAMS:
        _write_wrapper(home / "bin" / program, root)
    run(home / "bin" / _PROGRAMS[0], "--version")
    shutil.rmtree(archives)
    shutil.rmtree(home / "apt", ignore_errors=True)


def _libraries_of(archive: Path) -> list[str]:
    """Return the library packages that a package depends on; of alternatives the first."""
    depends = run("dpkg-deb", "--field", archive, "Pre-Depends", "Depends")
    names = re.findall(r"(?:^[\w-]+: |, )([a-z0-9][a-z0-9.+-]*)", depends, re.MULTILINE)
    # A C library beside the loader's own does not work.
    return [name for name in names if name.startswith("lib") and not name.startswith("libc6")]


def _missing_libraries(root: Path) -> set[str]:
    """Return the names of libraries that neither the machine nor `root` has."""
    missing: set[str] = set()
    for program in _PROGRAMS:
        path = root / "usr" / "bin" / program
        if path.exists():
            listed = run("env", _library_path(root), "ldd", path)
            missing |= set(re.findall(r"^\s*(\S+) => not found", listed, re.MULTILINE))
    return missing


def _library_path(root: Path) -> str:
    return f"LD_LIBRARY_PATH={':'.join(map(str, _library_directories(root)))}"


def _library_directories(root: Path) -> Iterable[Path]:
    return sorted(
        {path.parent for top in ("lib", "usr/lib") for path in root.glob(f"{top}/**/lib*.so.*")}
    )


def _write_wrapper(path: Path, root: Path) -> None:
    program = root / "usr" / "bin" / path.name
    libraries = shlex.quote(":".join(map(str, _library_directories(root))))
    path.write_text(
        f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {shlex.quote(str(program))} "$@"\n'
    )
    path.chmod(0o755)
