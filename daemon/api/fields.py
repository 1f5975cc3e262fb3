"""The kinds of values in bodies and queries, each with the sentence said when one is wrong.

pydantic reports what a value breaks; `refusal` turns its report into the API's error.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

from daemon import schedule
from daemon.api.errors import (
    ApiError,
    InvalidContainerName,
    InvalidId,
    InvalidRating,
    ValidationFailed,
)
from daemon.keys import PublicKey, parse_public_key
from daemon.model import JobState, JobType, Status, now
from daemon.model_images import STAR, STARS_MAX

_ID = re.compile(r"[0-9a-f]{24}")
_CONTAINER_NAME = re.compile(r"[A-Za-z0-9_-]{3,100}")
_DIGITS = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")

# What is not VALIDATION_ERROR, by the type that the validators below give their errors.
_KINDS: dict[str, type[ApiError]] = {
    "id": InvalidId,
    "container_name": InvalidContainerName,
    "rating": InvalidRating,
}
_SENTENCES = {
    "extra_forbidden": "is not known",
    "missing": "is required",
    "string_unicode": "must be valid Unicode",
}
REASON_CHARACTERS_MAX = 300
FAULTS_MAX = 100
NULL = {"type": "null"}


def is_id(text: str) -> bool:
    """Whether the text is 24 lower-case hex digits."""
    return _ID.fullmatch(text) is not None


def _object_id(text: str) -> str:
    if not is_id(text):
        raise PydanticCustomError("id", "must be 24 lower-case hexadecimal digits")
    return text


def _container_name(text: str) -> str:
    if not _CONTAINER_NAME.fullmatch(text):
        raise PydanticCustomError(
            "container_name", "must be 3-100 characters of a-z, A-Z, 0-9, - and _"
        )
    return text


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the character NUL")
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not contain control characters")
    return text


def _snapshot_reference(text: str) -> str:
    if "/" in text or any(unicodedata.category(letter) == "Cc" for letter in text):
        raise ValueError("must not contain / or control characters")
    return text


def _alias(text: str) -> str:
    if text.startswith("snap-"):
        raise ValueError("must not begin with snap-, as names do")
    return text


def _variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        raise ValueError("must be letters, digits and _, not beginning with a digit")
    return text


def _digits(value: object) -> object:
    if not (isinstance(value, str) and _DIGITS.fullmatch(value)):
        raise ValueError("must be a whole number")
    return int(value)


def _number(value: object) -> object:
    if not (isinstance(value, str) and _NUMBER.fullmatch(value)):
        raise ValueError("must be a number")
    return float(value)


def _thousandths(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= STARS_MAX:
        exact = Decimal(str(value)) * STAR
        if exact == int(exact):
            return int(exact)
    raise PydanticCustomError("rating", "must be a number from 0 to 5, of at most 3 decimals")


def _cron(text: str) -> str:
    schedule.check(text, now())
    return text


def _key(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return parse_public_key(value)


def documented(pattern: str) -> Any:
    """What the OpenAPI document says of a text whose validator says it in words."""
    return Field(json_schema_extra={"pattern": f"^{pattern}$"})


ObjectId = Annotated[str, AfterValidator(_object_id), documented(_ID.pattern)]
ContainerName = Annotated[str, AfterValidator(_container_name), documented(_CONTAINER_NAME.pattern)]
Text = Annotated[str, AfterValidator(_without_nul), documented(r"[^\x00]*")]
Line = Annotated[str, AfterValidator(_printable), documented(r"[^\x00-\x1f\x7f-\x9f]*")]
Comment = Annotated[Text, Field(max_length=1000)]
Color = Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")]
GivenKey = Annotated[PublicKey, BeforeValidator(_key), WithJsonSchema({"type": "string"})]
SnapshotReference = Annotated[
    str,
    Field(min_length=1, max_length=100),
    AfterValidator(_snapshot_reference),
    documented(r"[^/\x00-\x1f\x7f-\x9f]+"),
]
SnapshotAlias = Annotated[
    SnapshotReference,
    AfterValidator(_alias),
    documented(r"(?!snap-)[^/\x00-\x1f\x7f-\x9f]+"),
]
ExpiryDays = Annotated[float, Field(gt=0, le=36500)]
Command = Annotated[
    list[Annotated[Text, Field(max_length=4096)]], Field(min_length=1, max_length=256)
]
EnvironmentVars = Annotated[
    dict[
        Annotated[str, AfterValidator(_variable), documented(_VARIABLE.pattern)],
        Annotated[Text, Field(max_length=32768)],
    ],
    Field(max_length=256, json_schema_extra={"additionalProperties": False}),
]
CronText = Annotated[
    str, Field(max_length=200), AfterValidator(_cron), documented(r"\s*\S+(\s+\S+){4}\s*")
]
StatusWord = Annotated[Status, Field(strict=False)]
JobStateWord = Annotated[JobState, Field(strict=False)]
JobTypeWord = Annotated[JobType, Field(strict=False)]
Page = Annotated[int, Field(ge=1, le=10**9 - 1), BeforeValidator(_digits)]
Limit = Annotated[int, Field(ge=1, le=100), BeforeValidator(_digits)]
PriceBound = Annotated[float, Field(ge=0), BeforeValidator(_number)]
RatingBound = Annotated[float, Field(ge=0, le=STARS_MAX), BeforeValidator(_number)]
Stars = Annotated[
    int,
    BeforeValidator(_thousandths),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": STARS_MAX, "multipleOf": 1 / STAR}),
]
"""A rating: its number of stars in the body, thousandths of a star inside."""
WaitSeconds = Annotated[int, Field(ge=0, le=300), BeforeValidator(_digits)]


class Fields(BaseModel):
    """A body or a query: exact types, nothing unknown. Null in an optional field is the same as
    absent, but in those that `nullable` names, where it means to clear."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    nullable: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        kept = cls.nullable | (given.keys() - cls.model_fields.keys())
        return {key: value for key, value in given.items() if value is not None or key in kept}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The OpenAPI document, too, says that what is optional may be null."""
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        for name in schema["properties"].keys() - schema.get("required", []):
            if NULL not in schema["properties"][name].get("anyOf", []):
                schema["properties"][name] = {"anyOf": [schema["properties"][name], NULL]}
        return reference


class Nothing(Fields):
    """No body, or no query."""


class PageQuery(Fields):
    """Which part of a list."""

    page: Page = 1
    limit: Limit = 20


def refusal(error: ValidationError) -> ApiError:
    """The API's error for pydantic's report: the first fault decides the code, FAULTS_MAX are
    told."""
    faults = error.errors(include_url=False, include_input=False)[:FAULTS_MAX]
    details = {_where(fault): _reason(fault) for fault in faults}
    kind = _KINDS.get(faults[0]["type"], ValidationFailed)
    if kind is not ValidationFailed:
        return kind(details=details)
    where, reason = next(iter(details.items()))
    return ValidationFailed(f"Invalid input parameters: {where} {reason}", details=details)


def _where(fault: ErrorDetails) -> str:
    parts = [str(part) for part in fault["loc"] if part != "[key]"]
    return ".".join(parts)[:REASON_CHARACTERS_MAX] or "body"


def _reason(fault: ErrorDetails) -> str:
    text = _SENTENCES.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
    return text[:REASON_CHARACTERS_MAX]
