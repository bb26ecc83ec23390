"""Write `.env` for docker-compose.yml: new secrets, for nobody's eyes but the owner's.

python scripts/compose_env.py [--example]
"""

import argparse
import secrets
import sys
from pathlib import Path
from typing import Final

from headrace_local.credentials import Credentials
from headrace_local.files import write_private

ROOT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = ROOT / ".env"
EXAMPLE: Final = ROOT / ".env.example"

#: Variables of docker-compose.yml, each with the secret of a stack that it is.
SECRETS: Final = {
    "HEADRACE_POSTGRES_PASSWORD": "postgres_password",
    "HEADRACE_VALKEY_PASSWORD": "valkey_password",
    "HEADRACE_ACCESS_KEY_ID": "access_key_id",
    "HEADRACE_SECRET_ACCESS_KEY": "secret_access_key",
    "HEADRACE_WEBHOOK_SECRET": "webhook_secret",
    "HEADRACE_CALLBACK_TOKEN_SECRET": "callback_token_secret",
    "HEADRACE_KEYSTONE_ADMIN_PASSWORD": "keystone_admin_password",
    "HEADRACE_OPENSTACK_PASSWORD": "openstack_password",
    "HEADRACE_SWIFT_PASSWORD": "swift_password",
    "HEADRACE_SWIFT_STORAGE_KEY": "swift_storage_key",
    "HEADRACE_SWIFT_HASH_PREFIX": "swift_hash_prefix",
    "HEADRACE_SWIFT_HASH_SUFFIX": "swift_hash_suffix",
    "HEADRACE_SWIFT_TEMP_URL_KEY": "swift_temp_url_key",
    "HEADRACE_META_SIGNING_KEY": "meta_signing_key",
}
#: Secrets of servers that a stack on packages has no such secret of.
OWN_SECRETS: Final = ("HEADRACE_SEAWEEDFS_KEY", "HEADRACE_GRAFANA_PASSWORD")

_HEAD: Final = """\
# Of docker-compose.yml, see docs/how-to/compose.md. Keep it: the data of the volumes can be read
# with these secrets only.
# `python scripts/compose_env.py` makes a file like this one, with secrets, as .env.

# Which services `docker compose` means, by comma: core, cctv, gpu, observability.
COMPOSE_PROFILES=core
# Hosts whose streams may be read, by comma.
HEADRACE_HLS_ALLOWED_HOSTS=
# Where traces go (http://collector:4318); nowhere while it is empty.
HEADRACE_OTLP_ENDPOINT=
# Your key, for `docker compose run --rm headrace ...`; `keys create` makes one.
HEADRACE_API_KEY=

"""


def example() -> str:
    """Return the file without any secret."""
    return _HEAD + "".join(f"{name}=\n" for name in (*SECRETS, *OWN_SECRETS))


def new_secrets() -> str:
    """Return the file with secrets that nobody has had."""
    made = Credentials()
    values = {name: str(getattr(made, field)) for name, field in SECRETS.items()}
    values |= {name: secrets.token_urlsafe(32) for name in OWN_SECRETS}
    return _HEAD + "".join(f"{name}={value}\n" for name, value in values.items())


def main() -> int:
    """Write the file; return 1 where there is one already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--example", action="store_true", help="write .env.example instead")
    if parser.parse_args().example:
        EXAMPLE.write_text(example())
        return 0
    if TARGET.exists():
        print(f"{TARGET} is there already; the data of the volumes needs its secrets")
        return 1
    write_private(TARGET, new_secrets())
    print(f"Wrote {TARGET}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
