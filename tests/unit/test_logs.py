"""Log lines: their ids, their levels, and what is never in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from daemon import logs
from daemon.config import LogSection
from transfer.peer.refusals import Refusals

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-DEF_123"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n-----END OPENSSH PRIVATE KEY-----"
TEXTS = [
    ("postgresql://hoody:pa55@db/hoody refused", "pa55"),
    ("dsn host=db password=pa55 user=hoody", "pa55"),
    (f"Bearer {TOKEN} is unknown", TOKEN),
    (f"the key {KEY} is damaged", "b3BlbnNzaC1rZXk="),
]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging is the process's own: other tests find it as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_has_the_ids_of_what_wrote_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(LogSection(), server_id="s")
    with logs.bind(job_id="j", container_id="c"):
        logs.get("here").info("one", more=1)
        logging.getLogger("a.library").warning("two %d", 2)
    logs.get("here").info("three")
    one, two, three = lines(capsys)
    assert one.pop("timestamp")
    assert one == {
        "event": "one",
        "level": "info",
        "logger": "here",
        "server_id": "s",
        "job_id": "j",
        "container_id": "c",
        "more": 1,
    }
    assert (two["event"], two["job_id"], two["server_id"]) == ("two 2", "j", "s")
    assert "job_id" not in three


def test_what_is_refused_has_the_ids_of_peer_and_job(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(LogSection(), server_id="s")
    refusals = Refusals()
    refusals.tell("p", "no such snapshot", job_id="j")
    refusals.tell("", "unknown")
    one, other = lines(capsys)
    assert (one["peer_id"], one["job_id"], one["server_id"]) == ("p", "j", "s")
    assert not {"peer_id", "job_id"} & other.keys()


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize(("text", "secret"), TEXTS)
def test_what_looks_like_a_secret_is_not_written(
    text: str, secret: str, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up(LogSection.model_validate({"format": format}), server_id="s")
    log = logs.get("here")
    log.info(text)
    log.info("in a value", reason=text)
    logging.getLogger("a.library").error("%s", text)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        log.exception("in a trace")
    said = capsys.readouterr().err
    assert secret not in said
    assert said.count("[removed]") >= 4
    if format == "json":
        assert len([json.loads(line) for line in said.splitlines()]) == 4


@pytest.mark.parametrize("key", ["token", "password", "authorization", "ssh_private_key"])
def test_the_value_of_a_key_that_names_a_secret_is_not_written(
    key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up(LogSection(), server_id="s")
    logs.get("here").info("one", **{key: "hunter2"})
    (line,) = lines(capsys)
    assert line[key] == "[removed]"


def test_an_address_without_a_password_is_written_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up(LogSection(), server_id="s")
    address = "postgresql://hoody@db.example:5432/hoody?sslmode=verify-full"
    logs.get("here").info("one", address=address, when="2026-01-02T03:04:05", at="1.2.3.4:80")
    (line,) = lines(capsys)
    assert (line["address"], line["at"]) == (address, "1.2.3.4:80")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_level_says_from_where_on(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(LogSection.model_validate({"level": level}), server_id="s")
    levels = ["debug", "info", "warning", "error"]
    for one in levels:
        getattr(logs.get("here"), one)("said")
        logging.getLogger("a.library").log(getattr(logging, one.upper()), "said")
    wanted = levels[levels.index(level) :]
    assert [line["level"] for line in lines(capsys)] == [one for one in wanted for _ in range(2)]
