"""schemathesis asks every operation of the OpenAPI document, well and badly: answers are what the document says."""

import json
from copy import deepcopy
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks

from puna.server.app import ENDPOINTS
from puna.server.openapi import document

EXAMPLES = 20
"""Requests to each operation."""

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
ELSEWHERE = ("/api/pull", "/api/push")
"""What reaches for the network."""

GOOD: dict[str, Any] = {
    **{"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "input": "a", "prompt": "a", "text": "ab"},
    **{"max_tokens": 4, "max_output_tokens": 4, "n": 2, "choices": ["a", "b"], "type": "choice", "tokens": [97, 98]},
    **{"keep_alive": 60, "encoding_format": "base64", "top_logprobs": 2, "source": "tiny", "destination": "copy"},
}
"""Values that mean something, where a field's type says less than what is taken."""

RANKED: dict[str, Any] = {"model": "judge", "query": "w1", "documents": ["w2 w3", {"text": "w4"}], "top_n": 1}
"""The same of rankings."""

SAID = document(ENDPOINTS)
SCHEMA = schemathesis.openapi.from_dict(deepcopy(SAID))
OPERATIONS = {
    operation.label: operation
    for operation in (result.ok() for result in SCHEMA.get_all_operations())
    if operation.path not in ELSEWHERE
}


def meant(label: str, body: Any) -> Any:
    """Most bodies have good values for what they must have, and only some of what else was made up."""
    size = len(json.dumps(body, default=str))
    if not isinstance(body, dict) or size % 5 == 0 or label.startswith("DELETE"):
        return body
    method, path = label.split(" ")
    schema = SAID["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    known = SAID["components"]["schemas"][schema.rpartition("/")[2]]["properties"]
    kept = {name: value for name, value in body.items() if (len(name) + size) % 5 == 0}
    good = GOOD | RANKED if "rerank" in label else GOOD
    return kept | {name: value for name, value in good.items() if name in known and _may_be(value, known[name])}


def _may_be(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a text may stand where a schema wants an object alone."""
    kinds = {each.get("type") for each in schema.get("anyOf", [schema])}
    return not isinstance(value, str) or "object" not in kinds


WELL = [(label, GenerationMode.POSITIVE) for label in OPERATIONS]
BADLY = [(label, GenerationMode.NEGATIVE) for label, operation in OPERATIONS.items() if len(operation.body)]
"""Without a body there is nothing to be wrong."""


@pytest.mark.parametrize(("label", "mode"), [*WELL, *BADLY], ids=lambda value: getattr(value, "value", value))
def test_answers_are_as_the_document_says(label: str, mode: GenerationMode, url: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if mode is GenerationMode.POSITIVE:
            case.body = meant(label, case.body)
            case.path_parameters |= {"model": "tiny"} if "{model}" in label else {}
        case.validate_response(case.call(base_url=url, timeout=60), checks=CHECKS)

    ask()
