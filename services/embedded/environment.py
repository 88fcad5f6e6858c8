"""The environment of the embedded Ray and of the runs that it starts."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from pathlib import Path

# Variables of another Ray that this process runs in; they would connect the head or its drivers to that Ray.
_FOREIGN_RAY = frozenset(
    {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_TMPDIR"}
)
# Variables for interactive use: a run must not read a start-up file or stay open at its end.
_FOR_PROMPTS = frozenset({"PYTHONSTARTUP", "PYTHONINSPECT"})
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def head_environment(
    given: Mapping[str, str], *, token_file: Path, scratch: Path, niceness: int, marker: dict[str, str]
) -> dict[str, str]:
    """Build the environment that a head is started with; its workers and drivers inherit it.

    Args:
        given: The service's own environment.
        token_file: File of the token that Ray asks for.
        scratch: Folder for temporary files.
        niceness: Added to the priority of workers.
        marker: The variable by which all processes of the head are found.
    """
    kept = {name: value for name, value in given.items() if name not in _FOREIGN_RAY | _FOR_PROMPTS}
    path = import_path(kept.pop("PYTHONPATH", ""))
    return (
        kept
        | ({"PYTHONPATH": path} if path else {})
        | _no_proxies_for_loopback(kept)
        | _identity(kept, scratch)
        | {
            "PYTHONSAFEPATH": "1",  # no child interpreter imports from its current folder
            # With 0, the node's address is loopback and Ray's servers listen only there. With 1, Linux's default, Ray
            # takes the machine's address and listens on all interfaces.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_file),
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # at the default 2 s, a checkpoint just before a kill is lost
            "RAY_worker_niceness": str(niceness),  # Ray's own default is 15, behind all other processes
            "TMPDIR": str(scratch),
        }
        | marker
    )


def import_path(given: str) -> str:
    """Return a ``PYTHONPATH`` without the current folder.

    An empty entry and ``.`` mean the current folder, often by accident (``PYTHONPATH=$PYTHONPATH:/x``). Other
    entries are kept; relative ones become absolute, since runs start in another folder.
    """
    entries = [Path(entry) for entry in given.split(os.pathsep) if entry]
    return os.pathsep.join(str(entry.absolute()) for entry in entries if entry != Path())


def _no_proxies_for_loopback(given: Mapping[str, str]) -> dict[str, str]:
    """``NO_PROXY`` with the loopback addresses, which Ray's own processes use among themselves."""
    both = ",".join(value for value in (given.get("no_proxy"), given.get("NO_PROXY")) if value)
    entries = dict.fromkeys([*(entry.strip() for entry in both.split(",") if entry.strip()), *_LOOPBACK])
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(entries))


def _identity(given: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """User name and home for libraries that ask for them, where the system has none."""
    identity = {}
    try:
        getpass.getuser()
    except (KeyError, OSError):
        identity = {"USER": f"uid-{os.getuid()}", "LOGNAME": f"uid-{os.getuid()}"}
    if not given.get("HOME"):
        try:
            Path.home()
        except RuntimeError:
            identity["HOME"] = str(scratch)
    return identity
