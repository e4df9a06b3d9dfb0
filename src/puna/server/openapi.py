"""The OpenAPI document of a server: every endpoint with what it reads, gives and says when something goes wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from puna import __version__
from puna.server.endpoints import Endpoint
from puna.server.prefixes import NAME
from puna.server.shapes.errors import ERRORS
from puna.server.shapes.shape import Shape

REF = "#/components/schemas/{name}"
TAGS = {"ollama": "Ollama", "openai": "OpenAI", "anthropic": "Anthropic"}

PATTERNS = {"digest": "^sha256[:-][0-9a-f]{64}$", "name": f"^{NAME.pattern}$"}
"""What fits in a path's place, by its name."""


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """OpenAPI 3.1, as JSON has it."""
    types = [endpoint.reads for endpoint in endpoints if endpoint.reads]
    types += [endpoint.gives.json for endpoint in endpoints if endpoint.gives.json not in (None, dict)]
    _, schemas = msgspec.json.schema_components([*types, *ERRORS.values()], ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, path)
    info = {"title": "Puna", "version": __version__, "description": "Ollama's, OpenAI's and Anthropic's APIs."}
    security = {"key": {"type": "http", "scheme": "bearer"}}
    components = {"schemas": _without_tags(schemas), "securitySchemes": security}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


def _operation(endpoint: Endpoint, path: str) -> dict[str, Any]:
    answers = _answers(endpoint, endpoint.gives)
    operation: dict[str, Any] = {"summary": endpoint.about, "tags": [TAGS[endpoint.api]], "responses": answers}
    if named := [_parameter(name) for name in re.findall(r"\{(\w+)\}", path)]:
        operation["parameters"] = named
    if endpoint.reads:
        operation["requestBody"] = {"required": True, "content": _json(endpoint.reads)}
    if endpoint.scope:
        operation["security"] = [{"key": []}]
    return operation


def _answers(endpoint: Endpoint, shape: Shape) -> dict[str, Any]:
    """A response for each status of success, and one for whatever else."""
    content = _json(shape.json) | {media: {"schema": {}} for media in shape.others}
    good = {"description": endpoint.about} | ({"content": content} if content else {})
    bad: dict[str, Any] = {"description": "What went wrong."}
    if endpoint.method != "HEAD":
        bad["content"] = _json(ERRORS[endpoint.api])
    return {str(status): good for status in shape.statuses} | {"default": bad}


def _json(kind: type | None) -> dict[str, Any]:
    """Content of a type; {} where there is none."""
    if kind is None:
        return {}
    schema = {"type": "object"} if kind is dict else {"$ref": REF.format(name=kind.__name__)}
    return {"application/json": {"schema": schema}}


def _parameter(name: str) -> dict[str, Any]:
    schema = {"type": "string"} | ({"pattern": PATTERNS[name]} if name in PATTERNS else {"minLength": 1})
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _without_tags(schemas: dict[str, Any]) -> dict[str, Any]:
    """The tag by which requests travel to workers is nothing that clients send."""
    for schema in schemas.values():
        schema.get("properties", {}).pop("ask", None)
        schema["required"] = [name for name in schema.get("required", []) if name != "ask"]
    return schemas
