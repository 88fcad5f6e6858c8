"""Teacher families: what a BERT, a RoBERTa, an XLM-R or an MPNet is, in the same few functions each."""

from __future__ import annotations

from workloads.craft.families.bert import BERT
from workloads.craft.families.family import Facts, Family, Head
from workloads.craft.families.mpnet import MPNET
from workloads.craft.families.roberta import ROBERTA, XLM_ROBERTA
from workloads.spec.errors import InputError

__all__ = ["Facts", "Family", "Head", "family_of"]

_FAMILIES: dict[str, Family] = {family.name: family for family in (BERT, ROBERTA, XLM_ROBERTA, MPNET)}


def family_of(model_type: str) -> Family:
    """Find a family by the ``model_type`` of its configuration.

    Raises:
        InputError: It is not supported.
    """
    if model_type not in _FAMILIES:
        raise InputError.of(
            "teacher.model", f"The family {model_type!r} is not supported.", f"Use one of {', '.join(_FAMILIES)}."
        )
    return _FAMILIES[model_type]
