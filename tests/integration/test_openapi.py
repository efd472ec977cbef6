"""The OpenAPI document is true: schemathesis calls every operation with what it allows and with what it forbids."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from serving.app import create_app
from serving.settings import ServingSettings
from tests.api import Shop, ThreadApi, make_app
from tests.servers import Valkey


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadApi]:
    server = Valkey().start()
    Shop(server).close()
    api = ThreadApi(make_app(server, tmp_path_factory.mktemp("data")))
    api.start().close()
    yield api
    api.stop()
    server.stop()


_NOWHERE = ServingSettings(log_url="unix:///nowhere", store_url="unix:///nowhere")
schema = schemathesis.openapi.from_dict(create_app(_NOWHERE).openapi())

#: A schema cannot say which `after` tokens are ours, nor that the lines of an event come to a bounded sum.
UNSAYABLE = [positive_data_acceptance]
#: In a batch each part is judged by itself, so one bad part refuses nothing but itself.
BATCHES = {("POST", "/v1/events"), ("PUT", "/v1/catalog/items")}


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_operation_keeps_its_word(case: schemathesis.Case, api: ThreadApi) -> None:
    answer = case.call(base_url=api.url)
    if answer.status_code == 400 and answer.text == "Invalid HTTP request received.":
        return  # no HTTP that the server's parser takes (a target of 64 KiB, say): the application never saw it
    partly = [negative_data_rejection] if (case.method, case.path) in BATCHES else []
    case.validate_response(answer, excluded_checks=[*UNSAYABLE, *partly])


def test_the_document_is_openapi_3_1_and_names_every_schema_it_uses(api: ThreadApi) -> None:
    document = api.app.openapi()
    assert document["openapi"].startswith("3.1")
    text = str(document["paths"]) + str(document["components"]["schemas"])
    used = {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}
    assert used <= document["components"]["schemas"].keys()
    assert {"Event", "EventBatch", "Recommendation", "Problem", "CatalogItem"} <= used
