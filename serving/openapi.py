"""The OpenAPI 3.1 document: schemas from the msgspec types at work, operations from one table. Room: serving."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from events.shapes import MAX_EVENTS, WireContext, WireEvent, WireProperties
from events.wire_catalog import MAX_ITEMS, WireCatalogItem
from serving import rules
from serving.ask import PARAMETERS, Ask
from serving.auth import Access
from serving.collect import Collected, CollectProblem
from serving.customers import Profile
from serving.errors import PROBLEM_TYPE, Problem
from serving.health import Health
from serving.items import Item, ItemsAccepted, ItemsProblem
from serving.metrics import CONTENT_TYPE
from serving.recommend import Answer

VERSION: Final = version("kairos")

Json = dict[str, Any]
_REF: Final = "#/components/schemas/"
_TYPES: Final = (
    WireEvent, WireContext, WireProperties, WireCatalogItem, Ask, Answer, Collected, CollectProblem, Item,
    ItemsAccepted, ItemsProblem, Profile, Health, Problem,
)  # fmt: skip
_NAMES: Final = {
    "WireEvent": "Event", "WireItem": "EventItem", "WireContext": "EventContext", "WireProperties": "EventProperties",
    "WireCatalogItem": "CatalogItem", "Ask": "RecommendationRequest", "Answer": "Recommendation",
}  # fmt: skip


def schemas() -> Json:
    """Return the components, by the names that callers see."""
    _, found = msgspec.json.schema_components(_TYPES, ref_template=_REF + "{name}")
    text = msgspec.json.encode(found).decode()
    for ours, theirs in _NAMES.items():
        text = text.replace(f'"{_REF}{ours}"', f'"{_REF}{theirs}"')
    made: Json = {_NAMES.get(name, name): schema for name, schema in msgspec.json.decode(text).items()}
    for name, schema in made.items():
        schema["title"] = name
    event = made["Event"]["properties"]
    event["event"] = {"type": "string", "description": "a name of docs/http.md, or a shop's own under x_"}
    made["Event"]["allOf"] = rules.EVENT
    made["CatalogItem"]["allOf"] = rules.CATALOG_ITEM
    for item in (made["EventItem"], made["EventProperties"]):
        item["properties"].pop("currency", None)  # described, but equality with the event's cannot be said in a schema
    event["context"] = {"anyOf": [_ref("EventContext"), {"type": "null"}], "default": None}
    event["properties"] = {"anyOf": [_ref("EventProperties"), {"type": "null"}], "default": None}
    made["EventBatch"] = {
        "title": "EventBatch",
        "type": "object",
        "description": "Events, each judged by itself.",
        "required": ["events"],
        "properties": {
            "events": {"type": "array", "items": _ref("Event"), "minItems": 1, "maxItems": MAX_EVENTS},
            "sent_at": event["sent_at"],
            "historical": {"type": ["boolean", "null"], "description": "an import of the past; needs the secret key"},
        },
    }
    made["CatalogItems"] = {
        "title": "CatalogItems",
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {"type": "array", "items": _ref("CatalogItem"), "minItems": 1, "maxItems": MAX_ITEMS},
        },
    }
    asked = made["RecommendationRequest"]["properties"]
    asked["events"]["items"] = {"description": "an Event; one that cannot be used becomes a warning"}
    asked["context"] = {"type": ["object", "null"], "description": "read by later versions"}
    return made


def operation(method: str, path: str, access: Access) -> Json:
    """Return what FastAPI is told of a route."""
    row = _OPERATIONS[method, path]
    responses: Json = {}
    for status, (description, schema, media) in row["responses"].items():
        responses[status] = {"description": description, "content": {media: {"schema": schema}}}
    extra: Json = {}
    if row.get("body"):
        extra["requestBody"] = {
            "required": True,
            "content": {media: {"schema": row["body"]} for media in row.get("media", ("application/json",))},
        }
    if row.get("parameters"):
        extra["parameters"] = row["parameters"]
    need = row.get("security", "")
    if (need == "secret" and access.has_secret) or (need and access.has_publishable):
        schemes: list[Json] = [{"secretKey": []}]
        if need == "widget":
            schemes.append({"publishableKey": []})
        extra["security"] = schemes
    return {
        "summary": row["summary"],
        "operation_id": row["id"],
        "tags": [row["tag"]],
        "responses": responses,
        "status_code": min(int(status) for status in responses),
        "openapi_extra": extra,
    }


def install(app: FastAPI, access: Access) -> None:
    """Let the app serve the document with our components in it."""
    app.openapi = partial(_document, app, access)  # type: ignore[method-assign]


def _document(app: FastAPI, access: Access) -> Json:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes, openapi_version="3.1.0"
        )
        components = document.setdefault("components", {})
        components["schemas"] = schemas()
        if access.has_secret or access.has_publishable:
            components["securitySchemes"] = {
                "secretKey": {"type": "http", "scheme": "bearer"},
                "publishableKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
        for path in document["paths"].values():
            for item in path.values():
                for found in item["responses"].values():
                    media = found.get("content", {})
                    if len(media) > 1:
                        media.pop("application/json", None)
        app.openapi_schema = document
    return app.openapi_schema


def _ref(name: str) -> Json:
    return {"$ref": _REF + name}


def _either(name: str) -> Json:
    return {"anyOf": [_ref(name), _ref("Problem")]}


def _problems(*statuses: int) -> dict[int, Any]:
    return {s: (_PROBLEMS[s], _ref("Problem"), PROBLEM_TYPE) for s in statuses}


_PROBLEMS: Final = {
    400: "The request cannot be read",
    401: "A key is needed",
    403: "This key may not do that",
    404: "There is no such thing",
    413: "The body is too large",
    415: "The body's form is not read here",
    422: "The values cannot be used",
    429: "Intake sheds; Retry-After says when to come again",
    503: "The log or the store is not available; Retry-After says when to come again",
}


def _path(name: str, description: str) -> Json:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def _query() -> list[Json]:
    properties = msgspec.json.schema(Ask)["$defs"]["Ask"]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": properties[name]} for name in PARAMETERS]


def _json(description: str, name: str) -> tuple[str, Json, str]:
    return description, _ref(name), "application/json"


_SLATE: Final = {200: _json("A slate; `degraded` says where it is less than it could be", "Recommendation")}
_PROBE: Final = {200: _json("Yes", "Health"), 503: _json("Not now", "Health")}

_OPERATIONS: Final[dict[tuple[str, str], Json]] = {
    ("POST", "/v1/events"): {
        "id": "collect_events", "tag": "intake", "security": "widget",
        "summary": "Take in one event or a batch; each is judged by itself.",
        "body": {"anyOf": [_ref("EventBatch"), _ref("Event")]},
        "media": ("application/json", "text/plain"),
        "responses": {
            202: _json("The log has what is listed under `accepted`", "Collected"),
            **_problems(400, 401, 403, 413, 415, 429, 503),
            422: ("No event was accepted, or the batch is none", _either("CollectProblem"), PROBLEM_TYPE),
        },
    },
    ("POST", "/v1/recommendations"): {
        "id": "recommend", "tag": "recommendations", "security": "widget",
        "summary": "A slate for a placement.",
        "body": _ref("RecommendationRequest"),
        "responses": {**_SLATE, **_problems(400, 401, 403, 413, 415, 422)},
    },
    ("GET", "/v1/recommendations"): {
        "id": "recommend_by_query", "tag": "recommendations", "security": "widget",
        "summary": "A slate for a placement, by query parameters.",
        "parameters": _query(),
        "responses": {**_SLATE, **_problems(400, 401, 403, 422)},
    },
    ("PUT", "/v1/catalog/items"): {
        "id": "put_items", "tag": "catalogue", "security": "secret",
        "summary": "Say what is known of up to 1,000 items; a field left out keeps its value.",
        "body": _ref("CatalogItems"),
        "responses": {
            202: _json("The log has what is listed under `accepted`", "ItemsAccepted"),
            **_problems(400, 401, 403, 413, 415, 503),
            422: ("No item was accepted, or the list is none", _either("ItemsProblem"), PROBLEM_TYPE),
        },
    },
    ("GET", "/v1/catalog/items/{item_id:path}"): {
        "id": "get_item", "tag": "catalogue",
        "summary": "One item as the store knows it.",
        "parameters": [_path("item_id", "may hold slashes, also as %2F")],
        "responses": {200: _json("The item", "Item"), **_problems(400, 404, 503)},
    },
    ("GET", "/v1/customers/{customer_id:path}"): {
        "id": "get_customer", "tag": "customers", "security": "read",
        "summary": "What is known of a customer, by feature name.",
        "parameters": [_path("customer_id", "a customer_id, else an anonymous_id; may hold slashes")],
        "responses": {200: _json("The profile", "Profile"), **_problems(400, 401, 403, 404, 503)},
    },
    ("GET", "/livez"): {
        "id": "livez", "tag": "operations", "summary": "Whether the process answers.",
        "responses": {200: _PROBE[200]},
    },
    ("GET", "/readyz"): {
        "id": "readyz", "tag": "operations", "summary": "Whether intake and personal answers work now.",
        "responses": _PROBE,
    },
    ("GET", "/startupz"): {
        "id": "startupz", "tag": "operations", "summary": "Whether the log and the store were reached.",
        "responses": _PROBE,
    },
    ("GET", "/metrics"): {
        "id": "metrics", "tag": "operations", "summary": "Counters, as OpenMetrics text.",
        "responses": {200: ("The exposition", {"type": "string"}, CONTENT_TYPE.partition(";")[0])},
    },
}  # fmt: skip
