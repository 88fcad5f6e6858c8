"""Places: the folders, prefixes of buckets and hub ids that requests may read.

The service checks paths when it accepts a request. The run checks again when it opens a file, since a link may have
changed meanwhile. A run is one process for one job; :func:`confine` sets the places of the process.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs as pafs

from workloads.spec.errors import FieldError, InputError

BUCKETS = ("s3", "gs")
_WILD = re.compile(r"[*?\[]")
_PASSWORD = re.compile(r"(?i)[?&](secret_key|access_key|session_token)=")
_HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,95})?")
# Characters that object stores and their clients may interpret in another way than we do.
_AMBIGUOUS = re.compile(r"[%#\\\x00-\x1f\x7f]|(^|/)\.{0,2}(/|$)")


class OutsideError(PermissionError):
    """A file lies outside the places, although its path may lie inside."""


@dataclass(frozen=True, slots=True)
class Places:
    """The paths and hub ids that requests may read.

    Attributes:
        roots: Absolute folders, s3:// and gs:// prefixes; None allows everything.
        hub: Patterns of the allowed hub ids.
    """

    roots: tuple[str, ...] | None = None
    hub: tuple[str, ...] = ("*",)

    def finding(self, path: str, field: str) -> FieldError | None:
        """Return the error for a path outside the places; None if it is inside.

        Args:
            path: A file, folder, glob or URL as the request gives it; it need not exist.
            field: The field of the request that holds it.
        """
        scheme, mark, rest = path.partition("://")
        if mark and (_PASSWORD.search(rest) or ("@" in rest.partition("/")[0] and ":" in rest.partition("@")[0])):
            problem = "The URL holds credentials, which would be kept with the request."
            return FieldError(field, problem, "Leave them out; the cluster has its own.")
        known = BUCKETS if self.roots is not None else (*BUCKETS, "file")
        if mark and scheme not in known:
            problem = f"{path!r} cannot be opened: {scheme}:// is not read here."
            return FieldError(field, problem, "Use a local path, s3://bucket/path or gs://bucket/path.")
        if self.roots is None:
            return None
        if self._holds_url(scheme, rest) if mark else self._holds_glob(path):
            return None
        roots = ", ".join(self.roots)
        if not mark and self._names_inside(path):
            problem = f"{path} leads out of where requests may read: it is a link, or lies below one."
            return FieldError(field, problem, f"Put the files themselves below one of {roots}.")
        remedy = f"Put it below one of {roots}." if roots else "Use the hub, or have STILLROOM_ALLOWED_ROOTS set."
        return FieldError(field, f"{path} is not where requests may read.", remedy)

    def hub_finding(self, name: str, field: str) -> FieldError | None:
        """Return the error for a model or dataset of the hub that requests may not read; None if they may."""
        if self == EVERYWHERE:
            return None
        if _HUB_ID.fullmatch(name) is None or ".." in name:
            return FieldError(field, f"{name!r} is not a hub id.", "Write it as organisation/name, or give a path.")
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.hub):
            return None
        allowed = ", ".join(self.hub) or "none"
        return FieldError(field, f"{name} is not among the hub ids that requests may name.", f"Allowed: {allowed}.")

    def require(self, path: str, field: str) -> None:
        """Refuse a path outside the places; see :meth:`finding`.

        Raises:
            InputError: The path is outside.
        """
        if (found := self.finding(path, field)) is not None:
            raise InputError([found])

    def require_hub(self, name: str, field: str) -> None:
        """Refuse a hub id that is not allowed; see :meth:`hub_finding`.

        Raises:
            InputError: The hub id is not allowed.
        """
        if (found := self.hub_finding(name, field)) is not None:
            raise InputError([found])

    def holds(self, path: str) -> bool:
        """Whether a local path, with all its links followed, is inside."""
        try:
            return self.roots is None or self._holds_real(os.path.realpath(path))
        except ValueError:  # a NUL
            return False

    def open_file(self, filesystem: pafs.FileSystem, path: str) -> pa.NativeFile:
        """Open a file for random access, and check the opened file itself: the path may have changed after a check.

        Raises:
            OutsideError: The file is outside, or is not a regular file.
            OSError: The file cannot be opened.
        """
        local = isinstance(filesystem, pafs.LocalFileSystem)
        if not local or (self.roots is None and path.isascii()):
            return filesystem.open_input_file(path)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe must not block
        try:
            opened = Path(f"/proc/self/fd/{handle}")
            if self.roots is not None and not self._holds_real(str(opened.readlink())):
                raise OutsideError(f"{path} leads out of where requests may read")
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OutsideError(f"{path} is not a regular file")
            return filesystem.open_input_file(str(opened))
        finally:
            os.close(handle)

    def _holds_glob(self, path: str) -> bool:
        wild = _WILD.search(path)
        if wild is not None and not _is_there(path):
            if ".." in path[wild.start() :].split("/"):
                return False
            path = path[: path.rfind("/", 0, wild.start())] or "/"
        return self.holds(path)

    def _names_inside(self, path: str) -> bool:
        """Whether a path as written, before links are followed, is below a root."""
        named = Path(os.path.normpath(path))
        return "\0" not in path and any(named.is_relative_to(root) for root in self.roots or () if "://" not in root)

    def _holds_real(self, real: str) -> bool:
        local = (root for root in self.roots or () if "://" not in root)
        return any(Path(real).is_relative_to(os.path.realpath(root)) for root in local)

    def _holds_url(self, scheme: str, rest: str) -> bool:
        place, _, options = rest.partition("?")
        place = place.removesuffix("/")
        if "@" in place or _AMBIGUOUS.search(place):
            return False
        wild = _WILD.search(place)
        base = place if wild is None else place[: max(0, place.rfind("/", 0, wild.start()))]
        for root in self.roots or ():
            root_scheme, mark, root_rest = root.partition("://")
            root_place, _, root_options = root_rest.partition("?")
            root_place = root_place.rstrip("/")
            # Options may name another server, so they must equal the operator's.
            if mark and (scheme, options) == (root_scheme, root_options) and f"{base}/".startswith(f"{root_place}/"):
                return True
        return False


EVERYWHERE = Places()


def _is_there(path: str) -> bool:
    """Whether a file or folder has literally this name, wildcards included."""
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL
        return False


def local_path(text: str, field: str) -> Path:
    """Return a local path as an absolute one, with ``~`` expanded.

    Raises:
        InputError: ``~`` stands for a home that there is not.
    """
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        user = text.partition("/")[0].removeprefix("~")
        why = f"there is no user {user!r} with a home" if user else "this process's user has no home"
        raise InputError.of(field, f"{text!r} begins with ~, and {why}.", "Write the whole path.") from error


def root_of(text: str) -> str:
    """Normalise a root: an absolute folder, or a prefix of a bucket.

    Raises:
        ValueError: The text is not a root; the message ends with the remedy.
    """
    scheme, mark, rest = text.partition("://")
    if not mark:
        try:
            return str(local_path(text, "root"))
        except InputError as error:
            found = error.errors[0]
            raise ValueError(f"{found.problem} {found.remedy}") from error
    place = rest.partition("?")[0].rstrip("/")
    if scheme not in BUCKETS or not place or "@" in place or _AMBIGUOUS.search(place) or _WILD.search(place):
        raise ValueError(f"{text!r} is not a root. Use a folder, s3://bucket/prefix or gs://bucket/prefix.")
    return text


_confined = EVERYWHERE


def confine(places: Places) -> None:
    """Restrict the paths and hub ids of requests that this process reads to ``places``, from now on."""
    global _confined  # noqa: PLW0603 - a state of the process, like its working folder
    _confined = places


def confined() -> Places:
    """Return the places that this process is restricted to."""
    return _confined
