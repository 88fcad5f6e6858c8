"""Benchmarks; ``python -m benchmarks.<name>`` runs one."""

import os

os.environ["RAY_AUTH_MODE"] = "token"  # Ray reads this variable at import
