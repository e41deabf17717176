"""Requests made up from the collector's own document, right and wrong ones: every answer is one that the document knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from collector.recorded import complete_run
from collector.server.collectors import MEDIA_TYPE, Collector, collecting
from collector.server.test_access import EXPECTED
from looptap_collector import exact
from looptap_collector.server import gate

OPERATIONS = sorted((method, path.replace(":path", "")) for method, path in EXPECTED if path != "/openapi.json")
#: Where a text has a grammar, or a body a digest, that no schema can tell.
FURTHER_RULES = {
    "/v1/batches",
    "/v1/artifacts/{digest}",
    "/v1/histories",
    "/v1/runs",
    "/v1/lineage",
    "/v1/datasets/comparison",
    "/v1/serving/comparison",
}
#: "run=x" is a list of one, though the schema says list.
OF_ONE_OR_MANY = {"/v1/alerts", "/v1/windows", "/v1/edges", "/v1/runs", "/v1/datasets"}
WITHOUT_PARAMETERS = {"/healthz", "/readyz", "/metrics", "/v1/experiments"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector with runs that have ended, as an agent would have delivered them."""
    folder = tmp_path_factory.mktemp("schema") / "store"
    with pytest.MonkeyPatch.context() as patch, collecting(folder) as running:
        patch.setattr(gate, "_TRIES", 1_000_000)  # each question is asked again with wrong tokens
        for name in ("calm-otter-12", "<script>alert(1)</script>", "../../etc/passwd"):
            complete_run(running.store, name)
        yield running


@pytest.fixture(scope="module")
def schema(recorded: Collector) -> Any:
    found = schemathesis.openapi.from_dict(recorded.client("admin").get("/openapi.json").json())
    found.config.generation.allow_x00 = False  # refused in every address, which no schema can tell

    @found.auth()
    class Token:
        def get(self, case: Any, context: Any) -> str:
            return recorded.tokens["admin"]

        def set(self, case: Any, data: str, context: Any) -> None:
            case.headers["Authorization"] = f"Bearer {data}"

    return found


@schemathesis.serializer(MEDIA_TYPE)
def packed(context: Any, value: Any) -> bytes:
    content = getattr(value, "data", value)
    return content if isinstance(content, bytes) else exact.encode(content)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_documented(
    recorded: Collector, schema: Any, method: str, path: str, mode: GenerationMode
) -> None:
    """No status, media type, header or shape of an answer that the document does not tell; nothing fails; and nobody gets
    anything without the token that it asks for."""
    operation = schema[path][method]
    excluded = [positive_data_acceptance] if path in FURTHER_RULES else []
    excluded += [negative_data_rejection] if path in OF_ONE_OR_MANY else []

    @given(case=operation.as_strategy(generation_mode=mode, auth_storage=schema.auth))
    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(base_url=recorded.address, excluded_checks=excluded, timeout=30)

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "there is always a right question"
        assert path in WITHOUT_PARAMETERS


def test_the_document_has_one_shape_of_error(recorded: Collector) -> None:
    """Every refusal of every route, as the document has it, is ours; the framework's own shapes are not in it, and no
    reference leads nowhere."""
    content = recorded.client("admin").get("/openapi.json")
    document = content.json()
    assert "HTTPValidationError" not in content.text
    for path, operations in document["paths"].items():
        for operation in operations.values():
            refusals = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
            assert {"400", "403", "405", "421", "503"} <= set(refusals), path
            assert all(answer == {"$ref": f"#/components/responses/{status}"} for status, answer in refusals.items())
            assert ("401" in refusals) == bool(operation["security"])
    for answer in document["components"]["responses"].values():
        assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Refused"}
    for kind, name in re.findall(r'"#/components/(\w+)/(\w+)"', content.text):
        assert name in document["components"][kind]
