"""`/api/v1/openapi.json` and `/docs`: the document for programs, and as one page for people. The
page asks for nothing else: no script, no other file, nobody else's server."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any

from aiohttp import web

from daemon.api.openapi import document
from daemon.api.routing import AnyRoute

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
code, summary b { font-family: ui-monospace, monospace; font-size: 0.93em }
details { border: 1px solid #8886; border-radius: 6px; margin: 0.4rem 0; padding: 0.3rem 0.8rem }
summary { cursor: pointer }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 }
th, td { border-bottom: 1px solid #8883; padding: 0.2rem 0.8rem 0.2rem 0; text-align: left }
th, td { vertical-align: top; overflow-wrap: anywhere }
:root { color-scheme: light dark }
"""
_POLICY = "; ".join(
    [
        "default-src 'none'",
        f"style-src 'sha256-{b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_PAGE_HEADERS = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
_LIMITS = {
    "pattern": "matches",
    "minLength": "characters at least",
    "maxLength": "characters at most",
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
    "minItems": "items at least",
    "maxItems": "items at most",
    "maxProperties": "fields at most",
    "default": "default",
}


class Docs:
    """Answers with both; they are made once in a process."""

    def __init__(self, routes: tuple[AnyRoute, ...]) -> None:
        self._json, self._page = _made(routes)

    async def openapi(self, _request: web.Request) -> web.Response:
        """The document."""
        return web.Response(body=self._json, content_type="application/json", charset="utf-8")

    async def docs(self, _request: web.Request) -> web.Response:
        """The page."""
        return web.Response(
            body=self._page, content_type="text/html", charset="utf-8", headers=_PAGE_HEADERS
        )


@cache
def _made(routes: tuple[AnyRoute, ...]) -> tuple[bytes, bytes]:
    described = document(routes)
    return json.dumps(described).encode(), page(described).encode()


def page(described: dict[str, Any]) -> str:
    """The document as HTML."""
    info, base = described["info"], described["servers"][0]["url"]
    return "".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
            f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
            f"<p>{escape(info['description'])} ",
            f'The same for programs: <a href="{base}/openapi.json">openapi.json</a>. ',
            "Every request carries <code>Authorization: Bearer TOKEN</code>.</p>",
            *_operations(described["paths"], base),
            "<h2>Objects</h2>",
            *(_object(*named) for named in sorted(described["components"]["schemas"].items())),
            "</html>",
        ]
    )


def _operations(paths: dict[str, Any], base: str) -> Iterator[str]:
    """Every endpoint, under the heading of its resource."""
    heading = None
    for path, methods in paths.items():
        for method, operation in methods.items():
            if operation["tags"][0] != heading:
                heading = operation["tags"][0]
                yield f"<h2>{escape(heading)}</h2>"
            yield f'<details id="{escape(operation["operationId"])}"><summary>'
            yield f"<b>{method.upper()} {escape(base + path)}</b> {escape(operation['summary'])}"
            yield f"</summary><p>{_text(operation['description'])}</p>"
            yield from _table("Parameter", map(_parameter, operation["parameters"]))
            if "requestBody" in operation:
                yield f"<p>Body: {_content(operation['requestBody'])}</p>"
            yield from _table("Answer", (_answer(*one) for one in operation["responses"].items()))
            yield "</details>"


def _table(title: str, rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    lines = [f"<tr><td>{left}<td>{right}" for left, right in rows]
    if lines:
        yield f"<table><tr><th>{title}<th>{''.join(lines)}</table>"


def _parameter(parameter: dict[str, Any]) -> tuple[str, str]:
    told = _text(parameter.get("description", ""))
    name = f"<code>{escape(parameter['name'])}</code> in {escape(parameter['in'])}"
    return name, f"{_kind(parameter['schema'])} {told}"


def _answer(status: str, response: dict[str, Any]) -> tuple[str, str]:
    headers = "".join(
        f"<br>Header <code>{escape(name)}</code>: {_text(header['description'])}"
        for name, header in response.get("headers", {}).items()
    )
    lines = [_text(line.removeprefix("- ")) for line in response["description"].split("\n")]
    content = _content(response) if int(status) < 300 else ""
    return f"<code>{status}</code>", f"{'<br>'.join(lines)} {content}{headers}"


def _content(holder: dict[str, Any]) -> str:
    for media_type, content in holder.get("content", {}).items():
        schema = content["schema"]
        return _kind(schema.get("properties", {}).get("data", schema)) + (
            "" if media_type == "application/json" else f" <code>{escape(media_type)}</code>"
        )
    return ""


def _object(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = (
        (f"<code>{escape(field)}</code>", _kind(kind) + ("" if field in required else ", optional"))
        for field, kind in schema.get("properties", {}).items()
    )
    fields = "".join(_table("Field", rows)) or f"<p>{_kind(schema)}</p>"
    about = escape(schema.get("description", ""))
    return f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{about}</p>{fields}'


def _kind(schema: dict[str, Any]) -> str:
    """What values a schema lets in, in words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(kind) for kind in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    kind = escape(schema.get("type", "anything"))
    if "items" in schema:
        kind = f"list of {_kind(schema['items'])}"
    limits = [
        f"{words} <code>{escape(json.dumps(schema[key]))}</code>"
        for key, words in _LIMITS.items()
        if schema.get(key) is not None
    ]
    return kind + (f" ({', '.join(limits)})" if limits else "")


def _text(text: str) -> str:
    """Text with `code` in it."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if odd % 2 else part for odd, part in enumerate(parts))
