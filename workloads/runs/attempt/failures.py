"""Failures: conversion of an error on the cluster into the job's error document."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from workloads.documents.job_folder import ErrorDocument
from workloads.spec.errors import InputError
from workloads.storage.masking import mask
from workloads.storage.outages import UnreachableError, is_outage

_LONGEST = 500
_UNREACHABLE_REMEDY = "Check that the storage answers, then submit the request again; what was finished is used again."


def error_document(error: BaseException) -> ErrorDocument:
    """Describe why a run failed, by the deepest cause below Ray's wrappers."""
    import ray.exceptions

    # Ray's timeouts are OSErrors too, and its wrappers of a user's error also have that error's class.
    causes = [cause for cause in _causes(error) if not isinstance(cause, ray.exceptions.RayError)] or [error]
    for cause in causes:
        if isinstance(cause, InputError):
            first = cause.errors[0]
            message = mask(" ".join(found.problem for found in cause.errors))
            code = "unreachable" if isinstance(cause, UnreachableError) else "invalid_input"
            return ErrorDocument(code=code, message=message, field=first.field, remedy=first.remedy)
    for cause in causes:
        if isinstance(cause, ConnectionError | TimeoutError):
            continue  # it may come from a connection between our own processes
        if isinstance(cause, OSError) and is_outage(cause):
            return ErrorDocument(code="unreachable", message=_short(cause), remedy=_UNREACHABLE_REMEDY)
        if isinstance(cause, OSError):
            return ErrorDocument(code="storage", message=_short(cause), remedy=_remedy(cause))
    return ErrorDocument(code="internal", message=_short(causes[-1]))


def _causes(error: BaseException, seen: frozenset[int] = frozenset()) -> Iterator[BaseException]:
    """Yield the error and all that it wraps: Ray's causes, failures of Ray Train's workers, groups, ``__cause__``."""
    if id(error) in seen:
        return
    seen |= {id(error)}
    yield error
    inner = [getattr(error, name, None) for name in ("cause", "controller_failure", "__cause__")]
    failures = getattr(error, "worker_failures", None)
    inner += list(failures.values()) if isinstance(failures, dict) else []
    inner += list(error.exceptions) if isinstance(error, BaseExceptionGroup) else []
    for each in inner:
        if isinstance(each, BaseException):
            yield from _causes(each, seen)


def _remedy(error: OSError) -> str | None:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "Make room in the storage, then submit the request again; what was finished is used again."
    return "Check the storage and the files that the request names, then submit the request again."


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = mask(f"{type(error).__name__}: {lines[-1] if lines else 'no message'}")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
