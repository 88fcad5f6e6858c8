import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "transformers", "datasets")


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_service_and_the_command_line_import_neither_torch_nor_ray_nor_transformers():
    loaded = _modules_after("import services.api.app, services.cli.main, services.client, services.service")
    assert "fastapi" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("module", [*HEAVY, "fastapi", "sqlalchemy", "pyarrow", "httpx"])
def test_the_command_lines_help_needs_nothing_heavy(module):
    assert module not in _modules_after("import services.cli.main")
