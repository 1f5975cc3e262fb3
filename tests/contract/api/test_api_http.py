"""HTTP itself, byte by byte: whatever comes in, the answer is an envelope with a code."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from daemon.api.app import make_app
from daemon.api.runner import Runner
from daemon.model import Container
from tests.contract.api.api_world import World

HANG_SECONDS = 90
"""A test that waits for so long has failed."""


@dataclass
class Wire:
    """A listening API, and a container to ask about: `ID` in a request line stands for it."""

    world: World
    container: Container
    address: tuple[str, int]
    registry: CollectorRegistry

    async def send(self, line: str | bytes, *headers: str, body: bytes = b"") -> Answered:
        """The answer to one request with alice's token, on a connection of its own."""
        line = line if isinstance(line, bytes) else line.encode()
        token = f"Authorization: Bearer {self.world.token()}"
        head = [line.replace(b"ID", self.container.id.encode()), b"Host: x", token.encode()]
        head += [header.encode() for header in headers]
        return await self.raw(b"\r\n".join([*head, b"", body]))

    async def raw(self, content: bytes) -> Answered:
        """The answer to these bytes."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(content)
            async with asyncio.timeout(HANG_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                while head.startswith(b"HTTP/1.1 100"):
                    head = await reader.readuntil(b"\r\n\r\n")
                answered = Answered(head.decode("ascii"))
                if not content.startswith(b"HEAD"):
                    size = int(answered.header("Content-Length"))
                    answered.body = json.loads(await reader.readexactly(size))
                return answered
        finally:
            writer.close()
            await writer.wait_closed()


@dataclass
class Answered:
    """The head of an answer, and its JSON."""

    head: str
    body: Any = None

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def refusal(self) -> tuple[int, str]:
        assert self.header("Content-Type") == "application/json; charset=utf-8"
        assert self.body.keys() <= {"statusCode", "error", "message", "code", "details"}
        assert self.body["statusCode"] == self.status
        return self.status, self.body["code"]

    def header(self, name: str) -> str:
        lines = (line.partition(": ") for line in self.head.split("\r\n"))
        return next((value for key, _, value in lines if key == name), "")


@pytest.fixture
async def wire(world: World) -> AsyncIterator[Wire]:
    """The API as the daemon runs it."""
    deps = world.deps
    runner = Runner(make_app(deps), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Wire(world, await world.container(), runner.addresses[0][:2], deps.metrics.registry)
    await runner.cleanup()


V1 = "/api/v1"
ONE = f"{V1}/containers/ID"
ODD_LINES: dict[str, tuple[str | bytes, int, str]] = {
    "options": (f"OPTIONS {ONE} HTTP/1.1", 405, "METHOD_NOT_ALLOWED"),
    "trace": (f"TRACE {ONE} HTTP/1.1", 405, "METHOD_NOT_ALLOWED"),
    "propfind": (f"PROPFIND {ONE} HTTP/1.1", 405, "METHOD_NOT_ALLOWED"),
    "options-star": ("OPTIONS * HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "connect": ("CONNECT x:80 HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "unknown-method": (f"BREW {ONE} HTTP/1.1", 400, "VALIDATION_ERROR"),
    "small-method": (f"get {ONE} HTTP/1.1", 400, "VALIDATION_ERROR"),
    "double-slash": (f"GET {V1}//containers HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "leading-slashes": (f"GET /{V1}/containers HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "trailing-slash": (f"GET {ONE}/ HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "empty-id": (f"GET {V1}/containers//storage HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "dots": (f"GET {V1}/../v1/containers HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "other-version": ("GET /api/v2/containers HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "capital-path": (f"GET {V1}/Containers HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "encoded-slash": (f"GET {V1}/containers%2FID HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "capital-id": (f"GET {V1}/containers/{'A' * 24} HTTP/1.1", 400, "INVALID_ID_FORMAT"),
    "id-and-space": (f"GET {ONE}%20 HTTP/1.1", 400, "INVALID_ID_FORMAT"),
    "id-and-line-end": (f"GET {ONE}%0A HTTP/1.1", 400, "INVALID_ID_FORMAT"),
    "id-and-NUL": (f"GET {ONE}%00 HTTP/1.1", 400, "INVALID_ID_FORMAT"),
    "id-that-is-no-UTF-8": (f"GET {V1}/containers/%FF HTTP/1.1", 400, "INVALID_ID_FORMAT"),
    "name-no-UTF-8": (f"DELETE {ONE}/snapshots/%FF HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "name-surrogate": (f"DELETE {ONE}/snapshots/%ED%A0%80 HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "name-NUL": (f"DELETE {ONE}/snapshots/a%00b HTTP/1.1", 400, "VALIDATION_ERROR"),
    "name-percent": (f"DELETE {ONE}/snapshots/100% HTTP/1.1", 404, "RESOURCE_NOT_FOUND"),
    "raw-bytes": (f"GET {ONE}/snapshots/".encode() + b"\xff HTTP/1.1", 400, "VALIDATION_ERROR"),
    "raw-UTF-8": (f"DELETE {ONE}/snapshots/\u00e9 HTTP/1.1", 400, "VALIDATION_ERROR"),
    "query-no-UTF-8": (f"GET {V1}/containers?status=%FF HTTP/1.1", 400, "VALIDATION_ERROR"),
    "query-key-no-UTF-8": (f"GET {V1}/containers?%FF=1 HTTP/1.1", 400, "VALIDATION_ERROR"),
    "query-surrogate": (f"GET {V1}/jobs?type=%ED%A0%80 HTTP/1.1", 400, "VALIDATION_ERROR"),
    "query-long": (f"GET {V1}/jobs?x={'y' * 7000} HTTP/1.1", 400, "VALIDATION_ERROR"),
    "query-huge": (f"GET {V1}/jobs?x={'y' * 9000} HTTP/1.1", 400, "VALIDATION_ERROR"),
    "query-of-many": (f"GET {V1}/jobs?{'&' * 5000} HTTP/1.1", 200, ""),
    "no-line": ("", 400, "VALIDATION_ERROR"),
}


@pytest.mark.parametrize("case", ODD_LINES)
async def test_odd_request_lines(case: str, wire: Wire) -> None:
    line, status, code = ODD_LINES[case]
    answered = await wire.send(line)
    if code:
        assert answered.refusal == (status, code)
    assert answered.status == status


ODD_HEADERS: dict[str, tuple[int, str, tuple[str, ...], bytes]] = {
    "huge": (400, "VALIDATION_ERROR", (f"X-Odd: {'y' * 9000}",), b""),
    "expect": (400, "VALIDATION_ERROR", ("Expect: a miracle", "Content-Length: 2"), b"{}"),
    "length-is-text": (400, "VALIDATION_ERROR", ("Content-Length: two",), b"{}"),
    "length-is-negative": (400, "VALIDATION_ERROR", ("Content-Length: -2",), b"{}"),
    "two-lengths": (400, "VALIDATION_ERROR", ("Content-Length: 2", "Content-Length: 3"), b"{}"),
    "length-and-chunks": (
        400,
        "VALIDATION_ERROR",
        ("Content-Length: 2", "Transfer-Encoding: chunked"),
        b"0\r\n\r\n",
    ),
    "bad-chunk": (400, "VALIDATION_ERROR", ("Transfer-Encoding: chunked",), b"zz\r\n{}\r\n"),
    "no-gzip": (400, "VALIDATION_ERROR", ("Content-Encoding: gzip", "Content-Length: 2"), b"{}"),
    "colon": (400, "VALIDATION_ERROR", ("X Odd: 1",), b""),
    "folded": (400, "VALIDATION_ERROR", ("X-Odd: 1", " 2"), b""),
}


@pytest.mark.parametrize("case", ODD_HEADERS)
async def test_odd_headers(case: str, wire: Wire) -> None:
    status, code, headers, body = ODD_HEADERS[case]
    answered = await wire.send(f"PATCH {ONE} HTTP/1.1", *headers, body=body)
    assert answered.refusal == (status, code)
    assert await wire.world.stored(wire.container.id) == wire.container


async def test_a_gzip_bomb(wire: Wire) -> None:
    bomb = gzip.compress(b'{"comment": "' + bytes(64 << 20))
    length = f"Content-Length: {len(bomb)}"
    answered = await wire.send(f"PATCH {ONE} HTTP/1.1", "Content-Encoding: gzip", length, body=bomb)
    assert answered.refusal == (413, "PAYLOAD_TOO_LARGE")


OTHER_PROTOCOLS = {
    "TLS": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "none": b"\r\nhello\r\n\r\n",
}


@pytest.mark.parametrize("protocol", OTHER_PROTOCOLS)
async def test_other_protocols(protocol: str, wire: Wire) -> None:
    assert (await wire.raw(OTHER_PROTOCOLS[protocol])).refusal == (400, "VALIDATION_ERROR")


async def test_a_request_without_a_host(wire: Wire) -> None:
    content = f"GET {V1}/containers HTTP/1.1\r\n\r\n".encode()
    assert (await wire.raw(content)).refusal == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("path", [f"{V1}/nothing", f"{V1}/containers", f"{V1}//containers"])
async def test_a_stranger_learns_no_path(path: str, wire: Wire) -> None:
    answered = await wire.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answered.refusal == (401, "MISSING_TOKEN")


async def test_a_token_that_is_no_text(wire: Wire) -> None:
    head = f"GET {V1}/containers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ".encode()
    assert (await wire.raw(head + b"\xff\xfe\r\n\r\n")).refusal == (401, "INVALID_TOKEN")


async def test_head_has_no_body(wire: Wire) -> None:
    answered = await wire.send(f"HEAD {ONE} HTTP/1.1")
    assert (answered.status, answered.header("Allow")) == (405, "DELETE,GET,PATCH")


GOOD = {
    "percent-encoded-id": f"GET {V1}/containers/ENCODED HTTP/1.1",
    "absolute": f"GET http://x{ONE} HTTP/1.1",
    "old-version": f"GET {ONE} HTTP/1.0",
}


@pytest.mark.parametrize("case", GOOD)
async def test_odd_but_right(case: str, wire: Wire) -> None:
    encoded = "".join(f"%{ord(letter):02x}" for letter in wire.container.id)
    answered = await wire.send(GOOD[case].replace("ENCODED", encoded))
    assert (answered.status, answered.body["data"]["id"]) == (200, wire.container.id)


async def test_a_client_that_asks_before_it_sends(wire: Wire) -> None:
    """As curl does with a large body."""
    headers = ("Expect: 100-continue", "Content-Length: 18")
    answered = await wire.send(f"PATCH {ONE} HTTP/1.1", *headers, body=b'{"comment": "odd"}')
    assert (answered.status, answered.body["data"]["comment"]) == (200, "odd")


async def test_a_client_that_goes_away_is_no_fault_of_ours(wire: Wire) -> None:
    reader, writer = await asyncio.open_connection(*wire.address)
    head = f"PATCH {V1}/containers/{wire.container.id} HTTP/1.1\r\nHost: x\r\n"
    head += "Content-Length: 200\r\nExpect: 100-continue\r\n"
    writer.write(f"{head}Authorization: Bearer {wire.world.token()}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"{")
    writer.transport.abort()
    labels = {"route": f"{V1}/containers/{{id}}", "method": "PATCH", "status": "400"}
    async with asyncio.timeout(HANG_SECONDS):
        while not wire.registry.get_sample_value("hoody_http_requests_total", labels):
            await asyncio.sleep(0.01)
    assert await wire.world.stored(wire.container.id) == wire.container
