"""What the services of a stack have logged, from their first start on, and must not have."""

import re
from collections.abc import Iterator

from headrace_local.credentials import load_or_create
from headrace_local.logs import previous_log
from headrace_local.pytest_plugin import LocalStack

#: Whoever has one of these is let in; nothing but the word for it stands in their place.
_SIGNED = re.compile(
    r"(?i)(?P<kind>x-amz-signature|x-amz-security-token|temp_url_sig|[?&]token"
    r"|authorization\W{1,5}(?:bearer|basic)|x-auth-token\W{1,3})[=\s]*(?!\[redacted\])[\w%+/.-]{6,}"
    r"|hr_[0-9a-f]{12}_[\w-]+|whsec_[\w+/=-]+"
)


def _logs(stack: LocalStack) -> Iterator[tuple[str, str]]:
    for record in stack.state.processes:
        if record.kind == "service":
            for path in (previous_log(record.log_path), record.log_path):
                if path.exists():
                    yield record.name, path.read_text(errors="replace")


def leaks(stack: LocalStack, **more: str) -> list[str]:
    """Return who has logged what: names of secrets, and what looks like one.

    Args:
        stack: whose services are looked at.
        more: secrets of the test, by names for them.
    """
    keys = load_or_create(stack.directory / "credentials.json").model_dump()
    secrets = {name: key for name, key in keys.items() if name != "access_key_id" and key} | more
    assert len(secrets) > 10
    assert all(len(key) >= 20 for key in secrets.values())
    found = []
    for service, text in _logs(stack):
        found += [f"{service}: {name}" for name, key in secrets.items() if key in text]
        found += [f"{service}: {match[0]}" for match in _SIGNED.finditer(text)]
    return found
