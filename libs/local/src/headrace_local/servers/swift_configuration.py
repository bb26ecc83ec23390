"""What Swift's servers are told: one device, one copy, its storage servers on loopback only."""

from pathlib import Path
from typing import Final

from headrace_local.ports import LOOPBACK
from headrace_local.servers.keystone import SERVICE_PROJECT, SWIFT_USER

_CLUSTER: Final = """\
[swift-hash]
swift_hash_path_prefix = {prefix}
swift_hash_path_suffix = {suffix}
[storage-policy:0]
name = default
default = yes
policy_type = replication
"""

#: `workers = 0`: all in this process. `mount_check`: the device is a directory. The time-outs
#: are for disks of a cluster, where another copy is tried; here there is no other, and a busy
#: machine may take its time.
_COMMON: Final = """\
[DEFAULT]
bind_ip = {host}
bind_port = {port}
swift_dir = {data}
devices = {data}/devices
mount_check = false
workers = 0
disable_fallocate = true
fallocate_reserve = 0
log_level = WARNING
log_custom_handlers = __main__.log_to_stderr
node_timeout = 60
conn_timeout = 20
container_update_timeout = 30
"""

_STORAGE: Final = """\
[pipeline:main]
pipeline = guard {part}-server
[app:{part}-server]
use = egg:swift#{part}
[filter:guard]
paste.filter_factory = __main__:guard_factory
storage_key = {storage_key}
"""

#: `operator_roles`: who may write in the own project. `error_suppression_limit`: after so many
#: errors a device is left alone for a minute, and there is no other.
_PROXY: Final = """\
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk tempurl \
authtoken keystoneauth copy slo dlo proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_limit = 1000000
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
paste.filter_factory = __main__:cache_factory
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:tempurl]
use = egg:swift#tempurl
allowed_digests = sha256 sha512
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {auth_url}
auth_url = {auth_url}
auth_type = password
user_domain_id = default
project_domain_id = default
project_name = {project}
username = {user}
password = {password}
delay_auth_decision = true
include_service_catalog = false
cache = swift.cache
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, member
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


def cluster(*, prefix: str, suffix: str) -> str:
    """Return `swift.conf`.

    Args:
        prefix: part of each object's place on the disk; with another one nothing is found.
        suffix: likewise.
    """
    return _CLUSTER.format(prefix=prefix, suffix=suffix)


def storage(part: str, data: Path, port: int, *, storage_key: str) -> str:
    """Return the file of the account, container or object server (`part`)."""
    common = _COMMON.format(host=LOOPBACK, port=port, data=data)
    return common + _STORAGE.format(part=part, storage_key=storage_key)


def proxy(
    data: Path, port: int, *, host: str, auth_url: str, password: str, storage_key: str
) -> str:
    """Return the file of the server that clients talk to.

    Args:
        data: Swift's directory.
        port: to listen on.
        host: address to listen on.
        auth_url: Keystone's.
        password: Swift's own at Keystone.
        storage_key: what the servers behind it want to see.
    """
    common = _COMMON.format(host=host, port=port, data=data)
    common += f"storage_key = {storage_key}\n"
    return common + _PROXY.format(
        auth_url=auth_url, project=SERVICE_PROJECT, user=SWIFT_USER, password=password
    )
