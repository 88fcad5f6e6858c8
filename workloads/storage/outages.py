"""Outages: distinguishing errors that may pass (no answer now) from permanent ones."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from workloads.spec.errors import FieldError, InputError

_TEMPORARY_ERRNOS = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EIO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
# The SDKs behind pyarrow's file systems raise OSError without errno. Its text then holds AWS's error types, HTTP
# statuses of an S3 server, or Google's status codes.
_TEMPORARY_TEXTS = re.compile(
    r"NETWORK_CONNECTION|REQUEST_TIMEOUT|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|INTERNAL_FAILURE|curlCode"
    r"|HTTP (?:status|response code):? ?(?:429|5\d\d)|\b(?:UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED)\b"
)
# Compared by name, since the next version of a hub's client may use another HTTP library.
_TRANSPORT_ERRORS = frozenset({"TransportError", "ConnectionError", "Timeout"})


class UnreachableError(InputError):
    """A resource that the request names does not answer now; unlike with any other :class:`InputError`, retry."""


def is_outage(error: BaseException) -> bool:
    """Whether an error of a network, a file system or a hub, or one of its causes, is an outage that may pass."""
    causes = list(_causes(error))
    if any(type(one).__name__ == "OfflineModeIsEnabled" for one in causes):  # a setting: a retry cannot help
        return False
    return any(_is_temporary(one) for one in causes)


def cannot_use(field: str, problem: str, remedy: str, error: BaseException) -> InputError:
    """Make the error for a resource that cannot be read: :class:`UnreachableError` if ``error`` is an outage."""
    kind = UnreachableError if is_outage(error) else InputError
    return kind([FieldError(field, problem, remedy)])


def _is_temporary(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError | UnreachableError):
        return True
    if any(kind.__name__ in _TRANSPORT_ERRORS for kind in type(error).__mro__):
        return True
    state = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(state, int):
        return state == 429 or state >= 500
    if not isinstance(error, OSError):
        return False
    return (
        error.errno in _TEMPORARY_ERRNOS if error.errno is not None else _TEMPORARY_TEXTS.search(str(error)) is not None
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__
