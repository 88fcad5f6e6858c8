"""Requests that schemathesis derives from the OpenAPI document, one for each thing that it says, under all checks.

A rule that no schema can say is listed in ``BEYOND_THE_SCHEMA``: a request may break it and still fit the document.
Any other disagreement of the code and the document fails, and so does a rule in the list that nothing breaks.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass

import pytest
import schemathesis
from schemathesis.engine import Status, events, from_schema

from services.access.caller import Scope
from services.access.limits import RateLimit
from services.jobs.states import LOCAL_TENANT
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import serving
from tests.services.things import make_things

REQUEST = r"POST /v1/compressions(/plan)?"
BUDGETS = r"POST /v1/compressions(/plan|/\{job_id\}/selections)?"
KEYED = r"POST /v1/(compressions(/plan|/\{job_id\}/selections)?|evaluations)"
EVALUATION = r"POST /v1/evaluations"
FRONTIER = r"GET /v1/compressions/\{job_id\}/frontier"
BATCH = r"POST /v1/batches"


@dataclass(frozen=True)
class Exclusion:
    """Answers that a check complains about and that are right.

    Attributes:
        operation: Pattern of the operations.
        problem: Pattern of the problems in the answer, or of its detail where it has no findings.
        reason: Why they are right.
        check: The check.
        status: The answer's.
    """

    operation: str
    problem: str
    reason: str
    check: str = "positive_data_acceptance"
    status: int = 422

    def covers(self, found, problem):
        return (found.check, found.status) == (self.check, self.status) and bool(
            re.fullmatch(self.operation, found.operation) and re.fullmatch(self.problem, problem, re.DOTALL)
        )


FIELDS = "fields do not agree with one another"
ELSEWHERE = "what the request names is not there, and the schema does not know"
OF_ITEMS = "no schema says that a field of the items of a list is unique"
BEYOND_THE_SCHEMA = [
    Exclusion(BUDGETS, "'latency_target' limits nothing by itself.", FIELDS),
    Exclusion(BUDGETS, "'max_latency_ms' means nothing without the place it is measured on.", FIELDS),
    Exclusion(BUDGETS, "Two of '(budgets|latency_targets)' are named '.*'.", OF_ITEMS),
    Exclusion(REQUEST, "Give either 'paths' or 'dataset'.", FIELDS),
    Exclusion(REQUEST, "'int8' quantises the ONNX file.", FIELDS),
    Exclusion(REQUEST, "There is nothing to train on.", FIELDS),
    Exclusion(REQUEST, "'candidates' says how many the random and the evolutionary searcher try.", FIELDS),
    Exclusion(REQUEST, r"It is \d+, but the length of 'spaces' is 1.", FIELDS),
    Exclusion(REQUEST, "The preset '.*' and 'spaces' written out by hand exclude each other.", FIELDS),
    Exclusion(REQUEST, "Two sub-spaces have the same name, '.*'.", OF_ITEMS),
    Exclusion(REQUEST, r"Its groups hold .*; the sub-spaces are tiny, small, base.", FIELDS),
    Exclusion(REQUEST, r"It names .*; the sub-spaces are tiny, small, base.", FIELDS),
    Exclusion(REQUEST, r"\d+ is less than one step of \d+ x \d+ tokens.", FIELDS),
    Exclusion(EVALUATION, "The kind '.*' cannot be scored by '.*'.", FIELDS),
    Exclusion(EVALUATION, "The kind '.*' reads .* columns?, and these are .*", FIELDS),
    Exclusion(EVALUATION, "'validation' and 'test' both name rows that are only scored on.", FIELDS),
    Exclusion(EVALUATION, "A student is named by its compression and its id.", FIELDS),
    Exclusion(EVALUATION, "It is either a student or another model.", FIELDS),
    Exclusion(FRONTIER, "Latency is none of the costs.", "parameters do not agree with one another"),
    Exclusion(FRONTIER, "No latency was measured on '.*'; .*", ELSEWHERE),
    Exclusion(BATCH, "This field is missing.", "a compression is the common part and its own, seen together"),
    Exclusion(KEYED, "The key '.*' was sent before with another request.*", "a rule over several requests"),
    Exclusion(
        f"{REQUEST}|{EVALUATION}",
        "A request has at most .* bytes.",
        "a refusal that this check does not know",
        check="negative_data_rejection",
        status=413,
    ),
    Exclusion("GET /readyz", "not ready", "the document has this answer: Ray is not there", "not_a_server_error", 503),
]


NOT_STARTED = "no attempt has been started, so there is no log"
UNREACHED = {
    "GET /readyz": "Ray is not there",
    "GET /v1/selections/{selection_id}/log": NOT_STARTED,
    "GET /v1/plans/{plan_id}/log": NOT_STARTED,
    "DELETE /v1/selections/{selection_id}": "it has not ended",
    "POST /v1/batches": "only a whole request in it is accepted, of which its schema says nothing",
    "POST /v1/evaluations": "only files and compressions that are there are accepted",
}
"""Operations without an answer of success, and why."""


@dataclass(frozen=True)
class Found:
    """A complaint of a check."""

    operation: str
    check: str
    status: int | None
    what: str
    request: str
    answer: str

    @property
    def problems(self):
        try:
            answer = json.loads(self.answer)
        except ValueError:
            return [self.answer]
        findings = [one["problem"] for one in answer.get("errors", ())]
        return findings or [answer.get("detail") or answer.get("status") or self.answer]


@pytest.fixture
def service(tmp_path):
    """A service that asks for keys, so that the checks of access mean something."""
    settings = load_settings(
        storage=str(tmp_path / "storage"), ray_address="http://127.0.0.1:9", insecure_local=False,
        allowed_roots=["/"], requests_per_second=0,
    )  # fmt: skip
    service = Service(settings)
    service.refusals = RateLimit(0)  # the checks send many unknown keys
    service.start()
    yield service
    service.close()


def _schema(url, key, known):
    everywhere = {f"path.{name}": value for name, value in known.items() if " " not in name}
    verbs = [name.partition(" to ") for name in known if " to " in name]
    configuration = {
        "continue-on-failure": True,
        "headers": {"Authorization": f"Bearer {key}"},
        "parameters": everywhere,
        "operations": [
            {**_of_verb(verb, name), "parameters": {f"path.{name}": known[f"{name} to {verb}"]}}
            for name, _, verb in verbs
        ],
        "phases": {
            **{name: {"enabled": False} for name in ("examples", "fuzzing", "stateful")},
            "coverage": {"enabled": True, "generate-duplicate-query-parameters": True},
        },
    }
    configuration = schemathesis.Config.from_dict(configuration)
    return schemathesis.openapi.from_url(f"{url}/openapi.json", config=configuration)


def _of_verb(verb, name):
    """The operations that change the thing of a parameter, as the configuration selects them."""
    pattern = rf"^DELETE .*\{{{name}\}}$" if verb == "delete" else rf"\{{{name}\}}/{verb}$"
    return {"include-name-regex": pattern}


def _run(schema):
    """Send the requests; return the complaints, and the numbers of answers by operation and status."""
    complaints, statuses = [], {}
    for event in from_schema(schema).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            known = event.recorder
            counts = statuses.setdefault(known.label, Counter())
            for case, checks in known.checks.items():
                sent = known.interactions[case]
                counts[sent.response and sent.response.status_code] += 1
                complaints += [_found(known, case, one) for one in checks if one.status is not Status.SUCCESS]
    return complaints, statuses


def _found(known, case, check):
    sent, failure = known.interactions[case], check.failure_info and check.failure_info.failure
    return Found(
        operation=known.label,
        check=check.name,
        status=sent.response and sent.response.status_code,
        what=f"{known.cases[case].value.meta.phase.data.description}: {failure and failure.message}",
        request=f"{sent.request.method} {sent.request.uri} {(sent.request.body or b'')[:500]!r}",
        answer=sent.response.content.decode() if sent.response else "",
    )


def test_every_request_that_the_document_describes_is_answered_as_it_says(service, make_request, tmp_path):
    _, key = service.keys.create(LOCAL_TENANT, [Scope.READ, Scope.SUBMIT])
    known = make_things(service, make_request, tmp_path)
    with serving(service) as client:
        complaints, statuses = _run(_schema(client.server, key, known))

    met, wrong = Counter(), {}
    for found in complaints:
        for problem in found.problems:
            covering = [one for one in BEYOND_THE_SCHEMA if one.covers(found, problem)]
            met.update(covering)
            if not covering:
                wrong.setdefault((found.operation, found.check, found.status, problem), found)  # one of each is enough
    assert not wrong, "\n\n".join(str(one) for one in wrong.values())
    assert [one for one in BEYOND_THE_SCHEMA if one not in met] == []

    assert len(statuses) > 40
    unreached = {label for label, counts in statuses.items() if not any(200 <= (one or 0) < 300 for one in counts)}
    assert unreached <= UNREACHED.keys(), unreached
