"""Measures of this project; each module is run by ``python -m benchmarks.<name>``."""

import os

os.environ["RAY_AUTH_MODE"] = "token"  # Ray reads it when it is imported
