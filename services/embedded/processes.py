"""Search and end of all processes of an embedded Ray, by the marker in their environment."""

from __future__ import annotations

import time

import psutil

MARKER_VARIABLE = "STILLROOM_RAY"


def marked_processes(marker: str) -> list[psutil.Process]:
    """Find the processes that have the marker, and their descendants.

    The environment is inherited into new sessions and process groups, which Ray uses for its drivers and workers.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER_VARIABLE) == marker and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
                found.update((child.pid, child) for child in process.children(recursive=True))
        except psutil.Error:  # the process has ended, or belongs to another user
            continue
    return list(found.values())


def end_marked(marker: str, grace_seconds: float = 4.0, limit_seconds: float = 10.0) -> list[int]:
    """End all processes of a marker: SIGTERM, then SIGKILL, repeated for processes started meanwhile.

    Returns:
        Ids of processes left at the time limit; normally none.
    """
    deadline = time.monotonic() + limit_seconds
    processes = marked_processes(marker)
    for process in processes:
        _signal(process, kill=False)
    psutil.wait_procs(processes, timeout=grace_seconds)
    while processes := marked_processes(marker):
        if time.monotonic() > deadline:
            return [process.pid for process in processes]
        for process in processes:
            _signal(process, kill=True)
        psutil.wait_procs(processes, timeout=0.5)
    return []


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.NoSuchProcess:
        return
