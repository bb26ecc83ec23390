"""Why Swift or Keystone did not do what was asked. Each code is stable."""

from headrace_common.errors import HeadraceError


class SwiftError(HeadraceError):
    """Base of them all."""

    code = "swift_error"
    status = 502
    title = "Object store failed"


class SwiftUnavailableError(SwiftError):
    """Swift or Keystone does not answer, or answers that it cannot now."""

    code = "swift_unavailable"
    status = 503
    title = "Object store not available"
    retryable = True
    systemic = True


class SwiftFullError(SwiftError):
    """There is no room: a quota is used up, or the disks are full."""

    code = "swift_full"
    status = 507
    title = "Object store is full"
    retryable = True
    systemic = True


class SwiftUnauthorizedError(SwiftError):
    """Keystone refuses the credentials, or Swift what is asked for with them."""

    code = "swift_unauthorized"
    title = "Object store refused the credentials"
    systemic = True


class SwiftNotFoundError(SwiftError):
    """There is no such object, or no such container."""

    code = "swift_not_found"
    status = 404
    title = "Not in the object store"


class SwiftMisconfiguredError(SwiftError):
    """There is no object store where the settings say."""

    code = "swift_misconfigured"
    title = "Object store not found"
    systemic = True


class SwiftRefusedError(SwiftError):
    """Swift does not take the request: the object's name is too long, for instance."""

    code = "swift_refused"
    title = "Object store refused the request"


class ObjectTooLargeError(SwiftError):
    """A stored object has more bytes than are read."""

    code = "object_too_large"
    title = "Stored object too large"


class SetConflictError(SwiftError):
    """Others write this job's artefacts at the same time."""

    code = "artifact_conflict"
    status = 409
    title = "Artefacts changed meanwhile"
    retryable = True
