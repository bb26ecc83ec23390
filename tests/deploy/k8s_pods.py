"""Containers of the manifests as processes here, held as a cluster would hold them.

With exactly the manifest's command, environment, user, memory limit and volumes: in name spaces of
their own, on a file system that is read-only but for the volumes, without capabilities, and without
any network but loopback. The programs are those of this environment in place of an image's.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

from k8s_manifests import Manifest, pod_of

ROOT: Final = Path(__file__).parents[2]
#: What the images bring along (ENV in the Dockerfiles), here with the path of this environment.
IMAGE_ENVIRONMENT: Final = {
    "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108 - as in the images
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",
}
#: Arguments: user, group, a writable folder with its size or "", the folders that are to be seen.
#: Folders on the way that the user may not pass, and /tmp, are replaced by empty ones.
_CONTAIN: Final = """
set -eu
user=$1 group=$2 writable=$3 size=$4 folders=$5
shift 5
ip link set lo up
awk '{print $5}' /proc/self/mountinfo | while read -r place; do
    case $place in
        /proc|/proc/*|/sys|/sys/*|/dev|/dev/*) ;;
        # Others hide what is not there.
        *) [ ! -e "$place" ] || mount -o remount,bind,ro "$place" ;;
    esac
done
umask 022
mount -t tmpfs tmpfs /srv
number=0
for folder in $folders; do
    mkdir "/srv/$number"
    mount --bind "$folder" "/srv/$number"
    number=$((number + 1))
done
mount -t tmpfs -o mode=0755 tmpfs /root
mount -t tmpfs -o mode=1777${size:+,size=$size} tmpfs /tmp
number=0
for folder in $folders; do
    mkdir -p "$folder"
    mount --bind "/srv/$number" "$folder"
    number=$((number + 1))
done
mount -o remount,ro /root
mount -o remount,ro /srv
[ "$writable" = /tmp ] || mount -o remount,ro /tmp
exec setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs \
    --inh-caps=-all --bounding-set=-all env -i "$@"
"""
_MEMORY: Final = Path("/sys/fs/cgroup/memory")
_UNIFIED: Final = Path("/sys/fs/cgroup")


class Pod:
    """A container that runs."""

    def __init__(
        self, workload: Manifest, container: Manifest, environment: Mapping[str, str]
    ) -> None:
        """Start it; `environment` is the manifest's, with what stands for Secrets."""
        context = pod_of(workload)["spec"]["securityContext"]
        mounts = container.get("volumeMounts", [])
        size = ""
        for volume in pod_of(workload)["spec"].get("volumes", []):
            size = volume["emptyDir"]["sizeLimit"].removesuffix("i").lower()
        assert [mount["mountPath"] for mount in mounts] in ([], ["/tmp"])  # noqa: S108
        self._limit = container["resources"]["limits"]["memory"]
        self._group = _make_memory_group(self._limit)
        folders = f"{ROOT} {sys.base_prefix}"
        user, group = str(context["runAsUser"]), str(context["runAsGroup"])
        variables = [f"{name}={value}" for name, value in environment.items()]
        image = [f"{name}={value}" for name, value in IMAGE_ENVIRONMENT.items()]
        # A file: a pipe that nobody reads would stop it.
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `close`
        self.process = subprocess.Popen(
            [
                *("unshare", "--mount", "--net", "--ipc", "--propagation", "private"),
                *(
                    "sh",
                    "-c",
                    _CONTAIN,
                    "sh",
                    user,
                    group,
                    mounts[0]["mountPath"] if mounts else "",
                ),
                *(size, folders, *image, *variables, *container["command"]),
            ],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd="/",
            preexec_fn=self._join_memory_group,  # noqa: PLW1509 - two system calls
        )

    def get(self, port: int, path: str) -> int:
        """Ask it over its own network, and return the status; 0 if nobody answers."""
        asked = subprocess.run(
            [
                *("nsenter", "--target", str(self.process.pid), "--net"),
                *("curl", "--silent", "--output", "/dev/null", "--max-time", "30"),
                *("--write-out", "%{http_code}", f"http://127.0.0.1:{port}{path}"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        return int(asked.stdout or 0)

    def wait_for(self, port: int, path: str, *, seconds: float) -> None:
        """Wait until it answers a probe with success."""
        deadline = time.monotonic() + seconds
        while self.get(port, path) != 200:
            ended = self.process.poll()
            assert ended is None, f"ended with {ended}: {self.said()[-3000:]}"
            assert time.monotonic() < deadline, f"{path} not within {seconds} s"
            time.sleep(0.1)

    def owner(self) -> tuple[int, int]:
        """Return the user and group that it runs as."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        ids = {
            line.split()[0]: int(line.split()[1]) for line in status if line[:3] in {"Uid", "Gid"}
        }
        return ids["Uid:"], ids["Gid:"]

    def said(self) -> str:
        """Return all that it said so far."""
        self._output.seek(0)
        return self._output.read()

    def terminate(self, *, seconds: float) -> int:
        """Stop it as a cluster does, and return how it ended."""
        self.process.terminate()
        return self.process.wait(seconds)

    def close(self) -> None:
        """Make sure that nothing is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._output.close()
        if self._group is not None:
            # The kernel needs a moment to see that nobody is in there any more.
            for _ in range(50):
                with contextlib.suppress(OSError):
                    self._group.rmdir()
                    return
                time.sleep(0.1)

    def _join_memory_group(self) -> None:
        if self._group is not None:
            (self._group / "cgroup.procs").write_text(str(os.getpid()))


@contextlib.contextmanager
def running(
    workload: Manifest, container: Manifest, environment: Mapping[str, str]
) -> Iterator[Pod]:
    """Run a container while the block runs."""
    pod = Pod(workload, container, environment)
    try:
        yield pod
    finally:
        pod.close()


def why_not_here() -> str | None:
    """Return why this machine cannot hold processes so, if it cannot."""
    if os.geteuid() != 0:
        return "name spaces and other users need root"
    needed = ("unshare", "nsenter", "setpriv", "ip", "curl")
    if missing := [program for program in needed if shutil.which(program) is None]:
        return f"without {', '.join(missing)}"
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "--ipc", "mount", "-t", "tmpfs", "tmpfs", "/srv"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.stderr.strip() or None if tried.returncode else None


def _make_memory_group(limit: str) -> Path | None:
    """Make a cgroup with a memory limit; None where that is not to be had."""
    number = limit.replace("Gi", "G").replace("Mi", "M")
    for parent, file in ((_MEMORY, "memory.limit_in_bytes"), (_UNIFIED, "memory.max")):
        group = parent / f"headrace-{uuid4().hex[:8]}"
        try:
            group.mkdir()
            (group / file).write_text(number)
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        return group
    return None
