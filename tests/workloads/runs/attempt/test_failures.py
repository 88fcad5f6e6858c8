"""Reports of failures to the user; the errors are those that Ray and pyarrow really wrap."""

from __future__ import annotations

import errno
import pickle
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError, RayTaskError, WorkerCrashedError
from ray.train import TrainingFailedError

from workloads.runs.attempt.failures import error_document
from workloads.spec.errors import FieldError, InputError
from workloads.storage.outages import UnreachableError

_WRONG = InputError.of("corpus.paths", "There is nothing to read.", "Fill the files.")
_FULL = OSError(errno.ENOSPC, "No space left on device", "/data/state")


def _of_a_task(cause: BaseException) -> BaseException:
    """The error of ``ray.get`` for a task that raised ``cause``; it is of the cause's class too."""
    error: BaseException = RayTaskError("task", "Traceback …", cause, pid=1, ip="127.0.0.1").as_instanceof_cause()
    assert isinstance(error, type(cause))
    return error


def _chained(cause: BaseException) -> BaseException:
    try:
        raise RuntimeError("the stage failed") from cause
    except RuntimeError as error:
        return error


def _grouped(cause: BaseException) -> BaseException:
    return BaseExceptionGroup("two groups", [RuntimeError("stopped"), cause])


def _of_a_training(cause: BaseException) -> BaseException:
    from ray.train import WorkerGroupError

    error = WorkerGroupError("a worker failed", {1: cause})
    assert isinstance(error, TrainingFailedError)
    return error


_WRAPPINGS = [
    lambda cause: cause,
    _of_a_task,
    _chained,
    _grouped,
    _of_a_training,
    lambda cause: _chained(_of_a_task(cause)),
]


@pytest.mark.parametrize("wrap", _WRAPPINGS)
def test_wrong_input_is_told_by_its_field_however_it_is_wrapped(wrap: Any) -> None:
    told = error_document(wrap(_WRONG))
    assert told.model_dump() == {
        "code": "invalid_input", "message": "There is nothing to read.", "field": "corpus.paths",
        "remedy": "Fill the files.",
    }  # fmt: skip


@pytest.mark.parametrize("wrap", _WRAPPINGS)
def test_a_full_storage_is_told_with_the_place_and_the_remedy_however_it_is_wrapped(wrap: Any) -> None:
    told = error_document(wrap(_FULL))
    assert (told.code, told.field) == ("storage", None)
    assert "No space left on device" in told.message and "/data/state" in told.message
    assert told.remedy is not None and told.remedy.startswith("Make room in the storage")


def test_another_trouble_with_files_is_the_storage_s_without_talk_of_room() -> None:
    told = error_document(PermissionError(errno.EACCES, "Permission denied", "/data"))
    assert told.code == "storage"
    assert told.remedy is not None and "room" not in told.remedy


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("peer"), TimeoutError("late"), GetTimeoutError("late"), WorkerCrashedError(),
        RuntimeError("broken"), _of_a_task(ValueError("no")),
    ],
)  # fmt: skip
def test_what_may_be_well_the_next_time_is_neither_the_input_s_nor_the_storage_s_fault(error: BaseException) -> None:
    assert error_document(error).code == "internal"


@pytest.mark.parametrize("wrap", _WRAPPINGS)
def test_what_the_request_names_and_does_not_answer_is_told_by_its_field_and_as_unreachable(wrap: Any) -> None:
    told = error_document(wrap(UnreachableError([FieldError("teacher.model", "The hub is away.", "Wait.")])))
    assert (told.code, told.field, told.remedy) == ("unreachable", "teacher.model", "Wait.")


def test_a_storage_that_is_away_is_told_apart_from_one_that_refuses() -> None:
    away = OSError("When reading information for key 'a' in bucket 'b': AWS Error NETWORK_CONNECTION: curlCode: 7")
    refuses = OSError("When reading information for key 'a' in bucket 'b': AWS Error ACCESS_DENIED: HTTP status 403")
    assert [error_document(one).code for one in (away, refuses)] == ["unreachable", "storage"]


def test_several_findings_are_all_told_and_the_first_names_the_field() -> None:
    told = error_document(InputError([FieldError("a", "One.", "Do a."), FieldError("b", "Two.", "Do b.")]))
    assert (told.field, told.message, told.remedy) == ("a", "One. Two.", "Do a.")


def test_wrong_input_counts_more_than_a_storage_that_broke_on_the_way() -> None:
    assert error_document(BaseExceptionGroup("both", [_FULL, _WRONG])).code == "invalid_input"


def test_an_error_is_told_by_its_last_line_and_not_at_any_length() -> None:
    assert error_document(RuntimeError("Traceback\n  at x\nthe end\n")).message == "RuntimeError: the end"
    assert error_document(RuntimeError()).message == "RuntimeError: no message"
    assert len(error_document(RuntimeError("x" * 10_000)).message) < 600


def test_errors_that_cause_each_other_are_told_too() -> None:
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    assert error_document(one).code == "internal"


def test_wrong_input_stays_whole_from_process_to_process() -> None:
    error = InputError([FieldError("a", "One.", "Do a."), FieldError("b", "Two.", "Do b.")])
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is InputError
    assert back.errors == error.errors
    assert str(back) == str(error) == "a: One. Do a.; b: Two. Do b."


def test_so_does_what_is_unreachable() -> None:
    error = UnreachableError([FieldError("a", "One.", "Do a.")])
    assert type(pickle.loads(pickle.dumps(error))) is UnreachableError


@pytest.mark.ray
def test_wrong_input_found_by_a_ray_task_is_told_by_its_field(ray_cluster: str) -> None:
    import ray

    def refuse() -> None:
        raise InputError.of("corpus.paths", "There is nothing to read.", "Fill the files.")

    with pytest.raises(InputError) as caught:
        ray.get(ray.remote(num_cpus=0, max_retries=0)(refuse).remote())
    assert error_document(caught.value).field == "corpus.paths"
