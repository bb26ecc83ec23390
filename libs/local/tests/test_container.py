"""Servers as processes of containers: where they listen, and what they are told."""

import json
import os
import stat
from pathlib import Path

import pytest

from headrace_local.container import make_server

SECRETS = {
    "KEYSTONE_ADMIN_PASSWORD": "administrator",
    "OPENSTACK_PASSWORD": "ours",
    "SWIFT_PASSWORD": "swifts",
    "SWIFT_STORAGE_KEY": "storage",
    "SWIFT_HASH_PREFIX": "before",
    "SWIFT_HASH_SUFFIX": "after",
}


def environment(directory: Path) -> dict[str, str]:
    return {"DATA_DIR": str(directory), "PATH": os.defpath, **SECRETS}


def test_a_server_listens_for_others_and_its_process_has_no_secret(tmp_path: Path) -> None:
    launch = make_server("sqs", environment(tmp_path)).launch()

    assert list(launch.command[-4:]) == ["--host", "0.0.0.0", "--port", "4566"]  # noqa: S104
    assert launch.env["STATE_DIR"] == str(tmp_path)
    assert not set(SECRETS.values()) & set(launch.env.values())


def test_keystone_tells_the_names_by_which_containers_reach_each_other(tmp_path: Path) -> None:
    make_server("keystone", environment(tmp_path))
    identity = json.loads((tmp_path / "identity.json").read_text())

    assert identity["identity_url"] == "http://keystone:5000/v3"
    assert identity["object_store_url"] == "http://swift:8080/v1/AUTH_%(project_id)s"
    assert identity["admin_password"] == "administrator"
    assert {user["password"] for user in identity["users"]} == {"swifts", "ours"}
    assert "public_endpoint = http://keystone:5000\n" in (tmp_path / "keystone.conf").read_text()
    assert stat.S_IMODE((tmp_path / "identity.json").stat().st_mode) == 0o600


def test_only_swifts_proxy_listens_for_others(tmp_path: Path) -> None:
    make_server("swift", environment(tmp_path))
    proxy = (tmp_path / "proxy-server.conf").read_text()

    assert "bind_ip = 0.0.0.0\nbind_port = 8080\n" in proxy
    assert "auth_url = http://keystone:5000/v3\n" in proxy
    for part in ("account", "container", "object"):
        assert "bind_ip = 127.0.0.1\n" in (tmp_path / f"{part}-server.conf").read_text()
    assert "swift_hash_path_prefix = before\n" in (tmp_path / "swift.conf").read_text()


@pytest.mark.parametrize("missing", ["SWIFT_HASH_PREFIX", "SWIFT_STORAGE_KEY"])
def test_a_server_without_its_secret_does_not_start_with_a_new_one(
    tmp_path: Path, missing: str
) -> None:
    lacking = {**environment(tmp_path), missing: ""}

    with pytest.raises(SystemExit, match=f"swift needs {missing}"):
        make_server("swift", lacking)
    assert not list(tmp_path.iterdir())
