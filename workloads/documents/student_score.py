"""The answer of the program :mod:`workloads.runs.student_score` to the command line, as a JSON file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workloads.spec.errors import FieldError, InputError

ANSWER = "answer.json"
"""File of the answer, in the folder that the program is given."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)


class LossDocument(_Document):
    """A held-out loss."""

    heldout_loss: float
    spread: float | None = Field(description="Standard error over the rows; null if it was not measured.")
    rows: int


class StudentScore(LossDocument):
    """The held-out loss of a student's files, beside the recorded one."""

    sequence_length: int
    text: Literal["heldout", "given"] = Field(description="The compression's held-out text, or other files.")
    source: list[str] = Field(description="The storage that the text was read from, or the files.")
    teacher: str = Field(description="Where the teacher was read from.")
    polished: bool
    recorded: LossDocument
    ratio: float | None = Field(description="The loss over the recorded one; null if that is 0.")


class Finding(_Document):
    """A wrong input; see :class:`workloads.spec.errors.FieldError`."""

    field: str
    problem: str
    remedy: str


class ScoreAnswer(_Document):
    """The score, or what is wrong with the input or with this machine."""

    score: StudentScore | None = None
    findings: list[Finding] = Field(default_factory=list)
    failure: str | None = None

    @classmethod
    def of_errors(cls, error: InputError) -> ScoreAnswer:
        """Describe wrong input."""
        found = [Finding(field=one.field, problem=one.problem, remedy=one.remedy) for one in error.errors]
        return cls(findings=found)

    def input_error(self) -> InputError | None:
        """Return the error that the findings make; None if there are none."""
        found = [FieldError(one.field, one.problem, one.remedy) for one in self.findings]
        return InputError(found) if found else None
