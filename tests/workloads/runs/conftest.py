"""A real, small Ray for the tests of the runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """Local Ray of two CPUs, by its address; its workers inherit this process's environment."""
    import ray

    # Ray's socket paths must stay below 107 bytes, so not pytest's own folder.
    folder = Path(tempfile.mkdtemp(prefix="sr-"))
    root = str(Path(__file__).parents[3])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=str(folder))
        try:
            yield ray.get_runtime_context().gcs_address
        finally:
            ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
