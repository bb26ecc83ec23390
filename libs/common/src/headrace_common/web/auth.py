"""API keys over HTTP: `Authorization: Bearer hr_...`, and the scope each route needs."""

from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from headrace_common import keys
from headrace_common.db.engine import Database
from headrace_common.errors import UnauthorizedError
from headrace_common.keys import Principal, Scope

_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="An API key, `hr_...`")
_LEGACY = Principal(key_id=None, scopes=frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}))


class Authenticator:
    """Finds out who calls; each app has one in `app.state.authenticator`."""

    def __init__(self, database: Database | None, *, legacy_open: bool) -> None:
        """Make it.

        Args:
            database: where the keys are; None where the process has none, so that no key is known.
            legacy_open: let callers without a key use the endpoints of the old back end.
        """
        self._database = database
        self._legacy_open = legacy_open

    def identify(self, key: str | None, *, legacy_endpoint: bool) -> Principal:
        """Return who calls with `key`.

        Raises:
            UnauthorizedError: nobody that we know.
        """
        if key is None:
            if legacy_endpoint and self._legacy_open:
                return _LEGACY
            raise UnauthorizedError("an API key is needed: Authorization: Bearer hr_...")
        if self._database is None:
            raise UnauthorizedError("this process knows no API keys: DATABASE_URL is not set")
        with self._database.begin() as session:
            return keys.authenticate(session, key)


class _HasState(Protocol):
    authenticator: Authenticator


def requires(scope: Scope, *, legacy_endpoint: bool = False) -> Callable[..., Principal]:
    """Make the dependency that lets only callers with `scope` in, and tells who they are.

    Args:
        scope: what the route does.
        legacy_endpoint: whether the route is one of the old back end's, which
            LEGACY_OPEN_ENDPOINTS opens to callers without a key.
    """

    def caller(
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Principal:
        state: _HasState = request.app.state
        key = credentials.credentials if credentials else None
        principal = state.authenticator.identify(key, legacy_endpoint=legacy_endpoint)
        principal.require(scope)
        return principal

    return caller
