"""Summaries of jobs for lists, stored in a column of their own, so that lists read neither requests nor results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def of_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Make the summary of a new job; a request of an older version may lack some fields."""
    teacher, labels = request.get("teacher"), request.get("labels")
    budgets = request.get("budgets")
    return {
        "teacher": teacher.get("model") if isinstance(teacher, dict) else None,
        "teacher_kind": teacher.get("kind") if isinstance(teacher, dict) else None,
        "labels": labels if isinstance(labels, dict) else {},
        "budgets": [one.get("name") for one in budgets if isinstance(one, dict)] if isinstance(budgets, list) else [],
        "students": [],
    }


def with_students(summary: Mapping[str, Any], students: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add the students to a summary, from their documents."""
    return {**summary, "students": [_student(one) for one in students]}


def _student(document: Mapping[str, Any]) -> dict[str, Any]:
    latency = document.get("latency")
    speed_up = latency.get("speed_up") if isinstance(latency, dict) else None
    return {name: document.get(name) for name in ("id", "budget", "params", "heldout_loss")} | {"speed_up": speed_up}
