"""Write the OpenAPI document: ``python -m services.api docs/openapi.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from services.api.app import bare_app


def write(file: Path) -> None:
    """Write the document of the code as it is."""
    file.write_text(json.dumps(bare_app().openapi(), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
