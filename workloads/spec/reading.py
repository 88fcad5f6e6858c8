"""Reading of JSON and YAML text, in time proportional to its length."""

from __future__ import annotations

import json
from typing import Any

import yaml

from workloads.spec.part import MOST_LEVELS


class UnreadableTextError(ValueError):
    """Text that is neither JSON nor YAML, or is nested too deeply."""


def load_text(text: str) -> Any:
    """Read a document written as JSON or as YAML.

    Raises:
        UnreadableTextError: The text is neither, or is nested deeper than a request may be.
    """
    try:
        return json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise UnreadableTextError("it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UnreadableTextError(str(error).strip() or "it is neither JSON nor YAML") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, and with a limit on depth: its time grows with the square of that."""

    flow_level: int
    indents: list[int]

    def fetch_flow_collection_start(self, token: Any) -> None:
        self._check_depth()
        super().fetch_flow_collection_start(token)

    def add_indent(self, column: int) -> bool:
        self._check_depth()
        return bool(super().add_indent(column))

    def compose_node(self, parent: Any, index: Any) -> Any:
        # With aliases, a few lines can stand for any number of values.
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias; write the value out")
        return super().compose_node(parent, index)

    def _check_depth(self) -> None:
        if self.flow_level + len(self.indents) > MOST_LEVELS:
            raise yaml.YAMLError(f"it is nested deeper than {MOST_LEVELS} levels")
