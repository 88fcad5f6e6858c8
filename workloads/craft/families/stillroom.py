"""Our own model: the students that no stock class expresses, with modules named as the canonical parts are."""

from __future__ import annotations

from workloads.shapes.layouts import Layout
from workloads.shapes.parameters import LAYER, LAYERS, SHARED

LAYOUT = Layout(
    shared={part.name: part.name for part in SHARED}, layer={part.name: part.name for part in LAYER}, layers=LAYERS
)
