import subprocess
import sys

import pytest

from tests.services.test_cli import _finish

HEAVY = ("torch", "ray", "transformers", "datasets")


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_service_and_the_command_line_import_neither_torch_nor_ray_nor_transformers():
    loaded = _modules_after("import services.api.app, services.cli.main, services.client, services.service")
    assert "fastapi" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("module", [*HEAVY, "fastapi", "sqlalchemy", "pyarrow", "httpx"])
def test_the_command_lines_help_needs_nothing_heavy(module):
    assert module not in _modules_after("import services.cli.main")


SERVERS = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "prometheus_client", "structlog")
LIBRARIES = ("pyarrow", "numpy", "scipy", "matplotlib", "onnx", "onnxruntime", "pandas", "yaml", "psutil")


@pytest.mark.parametrize("verb", ["list", "show", "watch"])
def test_a_verb_on_a_server_imports_what_it_needs_and_nothing_heavy(service, client, make_request, verb):
    job = client.submit(make_request())
    _finish(service, job.id)
    arguments = [verb, *([job.id] if verb != "list" else []), "--server", client.server]
    loaded = _modules_after(
        f"from services.cli.main import app\ntry: app({arguments})\nexcept SystemExit as end: assert end.code == 0"
    )
    assert "httpx" in loaded
    assert loaded.isdisjoint({*HEAVY, *SERVERS, *LIBRARIES})
