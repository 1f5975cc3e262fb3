"""Bytes of a body -> a JSON object, without guessing: sans IO."""

from __future__ import annotations

import json

from daemon.api.errors import UnsupportedMediaType, ValidationFailed

CURL_DEFAULT = "application/x-www-form-urlencoded"


def check_media_type(content_type: str | None) -> None:
    """Refuses a Content-Type whose body is not read as JSON; absent is fine. Raises
    UnsupportedMediaType."""
    if content_type is None:
        return
    essence = content_type.partition(";")[0].strip().lower()
    is_json = essence == "application/json" or essence.endswith("+json")
    if not is_json and essence != CURL_DEFAULT:
        raise UnsupportedMediaType(details={"content-type": "must be application/json"})


def parse_object(content: bytes) -> dict[str, object]:
    """The object that the bytes spell; no bytes (or only white space) are the empty object.

    Raises ValidationFailed for bad UTF-8, bad JSON, NaN and infinities, a key twice, nesting
    beyond what is sane, and anything that is no object.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"is no UTF-8 at byte {error.start}") from None
    if not text.strip():
        return {}
    try:
        value: object = json.loads(
            text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant
        )
        # An escape can spell half of a surrogate pair, which no text may hold.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise _refused("has half of a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise _refused(f"is no JSON at character {error.pos}: {error.msg}") from None
    except (ValueError, RecursionError):
        raise _refused("has a number or a nesting that is too large") from None
    if not isinstance(value, dict):
        raise _refused("must be an object")
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValidationFailed(details={key: "is given twice"})
        found[key] = value
    return found


def _no_constant(name: str) -> object:
    raise _refused(f"has {name}, which is no JSON number")


def _refused(reason: str) -> ValidationFailed:
    return ValidationFailed(f"The body {reason}", details={"body": reason})
