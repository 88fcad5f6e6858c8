"""Record of how a student's held-out loss was measured, kept in the student's folder.

With it, the loss can be measured again from the student's files. The weights alone do not suffice: relations compare
heads in the order that the SuperLM put the teacher's heads in. Light to import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workloads.spec.errors import InputError
from workloads.spec.json_text import JsonError, parse_json
from workloads.spec.request import KindName, ObjectiveSpec

FILE = "heldout_loss.json"
FIELD = "FOLDER"
SCHEMA_VERSION: Final = 1
_COPY = "Copy it again from the student's archive."


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TeacherRecord(_Record):
    """The teacher that the student was compared with.

    Attributes:
        model: The request's hub id or folder.
        revision: The request's revision of a hub id.
        fingerprint: See :meth:`workloads.shapes.teacher_files.TeacherFiles.fingerprint`.
        kind: The kind that it was taken as.
        embedding_size: Dimensions of its students' vectors, if they are fewer.
    """

    model: str
    revision: str | None = None
    fingerprint: str
    kind: KindName = "encoder"
    embedding_size: int | None = None


class TextRecord(_Record):
    """The held-out text.

    Attributes:
        corpus: Fingerprint of the corpus's artefact; the rows are the first of its held-out side.
        rows: Number of rows that the loss is the mean of.
        counted_rows: Number of rows whose real tokens divide the loss; more than ``rows`` where the search dropped the
            candidate before its last rung.
        sequence_length: Tokens of a row, special ones included.
        layout: ``packed`` rows, or ``documents``: one a row, padded.
        documents: What one document was in a .txt file.
        text_column: Column or key that held the text.
        text_columns: The columns in its place, if they were given.
    """

    corpus: str
    rows: int = Field(ge=1)
    counted_rows: int = Field(ge=1)
    sequence_length: int = Field(ge=3)
    layout: Literal["packed", "documents"]
    documents: Literal["file", "paragraph", "line"]
    text_column: str
    text_columns: tuple[str, ...] | None = None


class RelationLayers(_Record):
    """The layers whose relations were compared, counted from 1."""

    teacher: int
    student: int


class HeldoutRecord(_Record):
    """How a held-out loss was measured.

    Attributes:
        heldout_loss: The loss in the compression's answer.
        spread: Its standard error over the rows; None where it was not measured.
        polished: Whether the student was trained alone after the search.
        objective: The request's objective, with the number of relation heads written out.
        relation_layers: None without relations.
        head_order: Order of the attention width's dimensions in which the teacher's last layer is read; None: as it is.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    heldout_loss: float
    spread: float | None
    polished: bool
    objective: ObjectiveSpec
    relation_layers: RelationLayers | None
    teacher: TeacherRecord
    text: TextRecord
    head_order: tuple[int, ...] | None

    def write(self, folder: Path) -> None:
        """Write the file into a student's folder.

        Raises:
            OSError: It cannot be written.
        """
        (folder / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> HeldoutRecord | None:
        """Read the file of a student's folder; None if there is none.

        Raises:
            InputError: The file is damaged, or of another version of stillroom.
        """
        try:
            found = parse_json((folder / FILE).read_bytes())
        except FileNotFoundError:
            return None
        except (JsonError, OSError) as error:
            raise InputError.of(FIELD, f"{folder / FILE} cannot be read: {error}.", _COPY) from error
        version = found.get("schema_version") if isinstance(found, dict) else None
        if version is not None and version != SCHEMA_VERSION:
            raise InputError.of(
                FIELD,
                f"{folder / FILE} has the schema version {version!r}; this stillroom reads version {SCHEMA_VERSION}.",
                "Use the version of stillroom that made the student, or a later one.",
            )
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "its content"
            raise InputError.of(FIELD, f"{folder / FILE} is damaged: {where}: {first['msg']}.", _COPY) from error
