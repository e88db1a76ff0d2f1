"""The checks that all bodies share: keys, types, choices, lengths and metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oaibg.sandbox.errors import ApiError, FieldError

if TYPE_CHECKING:
    from collections.abc import Collection

_NAMES = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def check_object(body: object, known: Collection[str]) -> dict[str, Any]:
    """Return the body if it is an object with only known keys, else raise `ApiError`."""
    if not isinstance(body, dict):
        raise ApiError(400, "The body of the request must be a JSON object.")
    for key in body:
        if key not in known:
            raise FieldError(f"Unknown parameter: '{key}'.", key, "unknown_parameter")
    return body


def check_type(value: object, param: str, *types: type, nullable: bool = True) -> None:
    """Raise `FieldError` if a value has none of these types. A boolean is not a number."""
    if value is None and nullable:
        return
    number_wanted = bool not in types and isinstance(value, bool)
    if number_wanted or not isinstance(value, types):
        expected = "a number" if float in types else " or ".join(_NAMES[one] for one in types)
        got = _NAMES.get(type(value), "something else")
        message = f"Invalid type for '{param}': expected {expected}, but got {got} instead."
        raise FieldError(message, param, "invalid_type")


def check_choice(value: object, choices: tuple[str, ...], param: str) -> None:
    """Raise `FieldError` if a value is neither None nor one of the choices."""
    if value is not None and value not in choices:
        listed = ", ".join(f"'{choice}'" for choice in choices[:-1])
        message = f"Invalid value: '{value}'. Supported values are: {listed} and '{choices[-1]}'."
        raise FieldError(message, param, "invalid_value")


def check_metadata(metadata: dict[str, Any] | None) -> None:
    """Raise `FieldError` if metadata has too many entries, or a key or value is too long."""
    metadata = metadata or {}
    if len(metadata) > 16:
        message = (
            "Invalid 'metadata': too many properties. Expected an object with at most "
            f"16 properties, but got an object with {len(metadata)} properties instead."
        )
        raise FieldError(message, "metadata", "object_above_max_properties")
    for key, value in metadata.items():
        param = f"metadata.{key}"
        if len(key) > 64:
            message = f"Invalid 'metadata': key '{key[:64]}' is longer than 64 characters."
            raise FieldError(message, "metadata", "property_name_above_max_length")
        check_type(value, param, str, nullable=False)
        check_length(value, param, 512)


def check_length(text: str, param: str, most: int) -> None:
    """Raise `FieldError` if a text has more than `most` characters."""
    if len(text) > most:
        message = (
            f"Invalid '{param}': string too long. Expected a string with maximum length "
            f"{most}, but got a string with length {len(text)} instead."
        )
        raise FieldError(message, param, "string_above_max_length")
