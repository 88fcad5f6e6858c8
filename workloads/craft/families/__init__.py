"""Teacher families: BERT, RoBERTa, XLM-R, MPNet and our own class for students, behind one interface."""

from __future__ import annotations

from workloads.craft.facts import Facts
from workloads.craft.families.family import Family, Head
from workloads.craft.families.stillroom import STILLROOM
from workloads.craft.families.stock import STOCK
from workloads.spec.errors import InputError

__all__ = ["STILLROOM", "Facts", "Family", "Head", "family_of"]

_FAMILIES: dict[str, Family] = {**STOCK, STILLROOM.name: STILLROOM}


def family_of(model_type: str) -> Family:
    """Find a family by the ``model_type`` of its configuration.

    Raises:
        InputError: The family is not supported.
    """
    if model_type not in _FAMILIES:
        raise InputError.of(
            "teacher.model", f"The family {model_type!r} is not supported.", f"Use one of {', '.join(_FAMILIES)}."
        )
    return _FAMILIES[model_type]
