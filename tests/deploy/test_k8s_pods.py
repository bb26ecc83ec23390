"""Every role starts, lives and stops here under exactly what its manifest says.

No server is there to be reached: a process that cannot reach one lives, and is not ready. All roles
take a while: `make pods` runs them, and `make test` those of ROLES.
"""

import os
import time
from typing import Final

import pytest
from k8s_manifests import filled_environment, named, pod_of, render
from k8s_pods import Pod, running, why_not_here

#: How long a process may take to start here, where others run too, beside its startup probe.
START_SECONDS: Final = 120
EVERY_ROLE: Final = (
    "ingest-api",
    "dispatcher",
    "scheduler",
    "results",
    "gpu-preprocessor",
    "speech-analysis-server",
)
ROLES: Final = os.environ.get("HEADRACE_POD_ROLES", "dispatcher").split()

pytestmark = [
    pytest.mark.skipif(why_not_here() is not None, reason=f"cannot be held so: {why_not_here()}"),
    pytest.mark.slow,
]


@pytest.mark.parametrize("name", ROLES)
def test_a_role_runs_as_its_manifest_says(name: str) -> None:
    # staging: production's gpu-preprocessor wants a GPU.
    objects = render("staging")
    workload = named(objects, "Deployment", name)
    [container] = pod_of(workload)["spec"]["containers"]
    [port] = container["ports"]
    with running(workload, container, filled_environment(objects, container)) as pod:
        pod.wait_for(port["containerPort"], "/health/live", seconds=START_SECONDS)
        assert pod.get(port["containerPort"], "/health/ready") == 503
        assert pod.get(port["containerPort"], "/metrics") == 200
        assert pod.owner() == (10001, 10001)
        grace = pod_of(workload)["spec"]["terminationGracePeriodSeconds"]
        code, said = pod.terminate(seconds=min(grace, 60)), pod.said()
    assert code == 0, said[-3000:]
    assert "process.stopped" in said
    assert "Read-only file system" not in said
    assert "Permission denied" not in said


def test_what_runs_first_waits_without_a_database() -> None:
    objects = render("staging")
    workload = named(objects, "Deployment", "dispatcher")
    [container] = pod_of(workload)["spec"]["initContainers"]
    with running(workload, container, filled_environment(objects, container)) as pod:
        deadline = time.monotonic() + START_SECONDS
        while "await_schema.no_database" not in pod.said():
            assert time.monotonic() < deadline, pod.said()
            time.sleep(0.1)
        assert pod.process.poll() is None


def _run(command: list[str]) -> tuple[int, str]:
    """Run a command as the dispatcher's container; return how it ended, and what it said."""
    objects = render("staging")
    workload = named(objects, "Deployment", "dispatcher")
    [container] = pod_of(workload)["spec"]["containers"]
    container["command"] = command
    with running(workload, container, {}) as pod:
        return pod.process.wait(60), pod.said()


def test_the_hold_is_real() -> None:
    assert "Read-only file system" in _run(["touch", "/var/tmp/file"])[1]  # noqa: S108
    assert _run(["touch", "/tmp/file"]) == (0, "")  # noqa: S108
    assert _run(["id", "-u"]) == (0, "10001\n")
    _, said = _run(["cat", "/proc/self/status"])
    assert "CapBnd:\t0000000000000000" in said
    assert "NoNewPrivs:\t1" in said
    code, said = _run(["dd", "if=/dev/zero", "of=/tmp/file", "bs=1M", "count=80"])
    assert code != 0
    assert "No space left" in said


def test_memory_is_bounded() -> None:
    objects = render("staging")
    workload = named(objects, "Deployment", "dispatcher")
    [container] = pod_of(workload)["spec"]["containers"]
    container["resources"]["limits"]["memory"] = "64Mi"
    container["command"] = ["python", "-I", "-c", "len(bytearray(b'x') * 200_000_000)"]
    with running(workload, container, {}) as pod:
        if not _has_memory_group(pod):
            pytest.skip("no memory cgroup can be made here")
        assert pod.process.wait(60) == -9


def _has_memory_group(pod: Pod) -> bool:
    return pod._group is not None
