"""Error bodies: what is the API's own error, and what its fields say."""

from __future__ import annotations

import pytest

from oaibg.api.error_body import error_event, read_error


@pytest.mark.parametrize(
    ("body", "own"),
    [
        ({"error": {"message": "m", "type": "invalid_request_error"}}, True),
        ({"error": {"message": "m", "type": "BadRequestError", "code": 400}}, True),
        ({"error": {"message": "m", "type": None, "code": "model_not_found"}}, True),
        ({"error": {"message": "m", "code": 400}}, False),
        ({"error": {"message": "m", "code": "provider_error"}}, False),
        ({"error": {"message": "m", "type": "None", "code": "400"}}, False),
        ({"error": {"message": "", "type": "invalid_request_error"}}, False),
        ({"error": {"message": {"x": 1}, "type": "invalid_request_error"}}, False),
        ({"error": "m", "type": "invalid_request_error", "message": "m"}, False),
        ({"object": "error", "message": "m", "type": "BadRequestError"}, False),
        ({"success": False, "error": [{"code": 2005, "message": "m"}]}, False),
        ("m", False),
    ],
)
def test_the_envelope(body: object, own: bool) -> None:
    """The API's own error is an object with a message, and a type or a code of the API's."""
    assert read_error(body).envelope == own


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "two\nlines"}}, "two lines"),
        ({"error": "text"}, "text"),
        ({"detail": [{"loc": ["body"]}]}, '[{"loc":["body"]}]'),
        ({"success": False, "error": [{"code": 5}]}, '[{"code":5}]'),
        ({"errors": ["x"]}, '["x"]'),
        ({"reason": "x"}, '{"reason":"x"}'),
        ({"error": {"code": 5}}, '{"code":5}'),
        ("plain text", "plain text"),
        ("<html><title>502 Bad Gateway</title>", "an HTML page (502 Bad Gateway)"),
        ("", None),
    ],
)
def test_the_words(body: object, words: str | None) -> None:
    """The server's words are found in every form; JSON without a message is its own words."""
    assert read_error(body).words == words


def test_the_error_of_an_event() -> None:
    """An error event has its fields at the top or in `error`; a response's null is no error."""
    flat = error_event({"type": "error", "code": "server_error", "message": "m", "param": None})
    nested = error_event({"type": "error", "error": {"type": "server_error", "message": "m"}})
    chunk = error_event({"error": {"type": "server_error", "message": "m"}})
    assert [error and error.words for error in (flat, nested, chunk)] == ["m"] * 3
    assert [error and error.envelope for error in (flat, nested, chunk)] == [True] * 3
    assert error_event({"type": "response.created", "error": None}) is None
