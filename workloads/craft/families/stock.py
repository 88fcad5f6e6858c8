"""The families of stock ``transformers`` classes."""

from __future__ import annotations

from workloads.craft.families.bert import BERT
from workloads.craft.families.encoder import Encoder
from workloads.craft.families.mpnet import MPNET
from workloads.craft.families.roberta import ROBERTA, XLM_ROBERTA

STOCK: dict[str, Encoder] = {family.name: family for family in (BERT, ROBERTA, XLM_ROBERTA, MPNET)}
