"""The OpenAPI document of a server: every endpoint with the type of its body, and the types of bodies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from puna import __version__
from puna.server.endpoints import Endpoint

REF = "#/components/schemas/{name}"
TAGS = {"ollama": "Ollama", "openai": "OpenAI", "anthropic": "Anthropic"}


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """OpenAPI 3.1, as JSON has it."""
    reads = [endpoint.reads for endpoint in endpoints if endpoint.reads]
    _, schemas = msgspec.json.schema_components(reads, ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, path)
    info = {"title": "Puna", "version": __version__, "description": "Ollama's, OpenAI's and Anthropic's APIs."}
    security = {"key": {"type": "http", "scheme": "bearer"}}
    components = {"schemas": _without_tags(schemas), "securitySchemes": security}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


def _operation(endpoint: Endpoint, path: str) -> dict[str, Any]:
    named = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _names(path)]
    answers = {"200": {"description": endpoint.about}, "default": {"description": "What went wrong."}}
    operation: dict[str, Any] = {"summary": endpoint.about, "tags": [TAGS[endpoint.api]], "responses": answers}
    if named:
        operation["parameters"] = named
    if endpoint.reads:
        schema = {"$ref": REF.format(name=endpoint.reads.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if endpoint.scope:
        operation["security"] = [{"key": []}]
    return operation


def _names(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


def _without_tags(schemas: dict[str, Any]) -> dict[str, Any]:
    """The tag by which requests travel to workers is nothing that clients send."""
    for schema in schemas.values():
        schema.get("properties", {}).pop("ask", None)
        schema["required"] = [name for name in schema.get("required", []) if name != "ask"]
    return schemas
