"""Any response ID and any input file: a usage error, or exactly what the user wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger import count
from oaibg.api.payload import is_response_id
from oaibg.contract.errors import UsageError
from oaibg.request import checks, fields
from oaibg.request.body import Settings, build_request
from strategies import ANY_TEXT, ID_CHARACTERS, UTF8_TEXT, is_plain_id, shared, slow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hypothesis.strategies import SearchStrategy

    from harness import Result
    from oaibg.sandbox import Sandbox


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of all examples of this module."""
    return tmp_path_factory.mktemp("properties")


IDS = st.text(ID_CHARACTERS, min_size=1, max_size=40).filter(lambda text: text.strip("."))
ID_LIKE = st.one_of(
    ANY_TEXT,
    IDS,
    st.text("./%?#@ \\\n\t\0é\u0661" + ID_CHARACTERS, max_size=12),
    st.builds(
        "{}{}".format, IDS, st.sampled_from(["\n", " ", "/", "/cancel", "?a=b", "\0", "\ud800"])
    ),
    st.builds(str.__mul__, st.sampled_from("r."), st.integers(1020, 1030)),
)


@slow(max_examples=200)
@given(text=ID_LIKE)
def test_which_texts_are_ids(text: str) -> None:
    """A text is a response ID exactly if the contract allows it."""
    count("fuzzed")
    assert is_response_id(text) == is_plain_id(text)


@shared(max_examples=40)
@given(
    text=ID_LIKE.filter(lambda text: not is_plain_id(text)),
    command=st.sampled_from(["monitor", "cancel", "show"]),
)
@example(text="", command="show")
@example(text="../resp_1", command="cancel")
@example(text="r\0", command="monitor")
@example(text="\udcff", command="monitor")
@example(text="r" * 100_000, command="show")
def test_malformed_ids(
    run: Callable[..., Result], sandbox: Sandbox, text: str, command: str
) -> None:
    """A malformed response ID gives one `usage` error and exit 2, and nothing is sent."""
    count("fuzzed")
    result = run(command, "--", text)
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert not sandbox.requests


PLAIN = Settings(model="m", reasoning_effort="medium", verbosity="medium")


def json_values(texts: SearchStrategy[str], *, finite: bool) -> SearchStrategy[Any]:
    """Generate JSON values with these texts; unless `finite`, also NaN and infinities."""
    floats = st.floats(allow_nan=not finite, allow_infinity=not finite)
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=4,
    )


JSON = json_values(UTF8_TEXT, finite=True)
ODD_JSON = json_values(ANY_TEXT, finite=False)
PART = st.fixed_dictionaries({"type": UTF8_TEXT}, optional={"text": UTF8_TEXT, "x": JSON})
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(checks.ROLES),
            "content": UTF8_TEXT | st.lists(PART, min_size=1, max_size=2),
        },
        optional={"type": st.just("message"), "x": JSON},
    ),
    min_size=1,
    max_size=3,
)
ODD_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(checks.ROLES) | ANY_TEXT,
            "content": ODD_JSON,
            "type": ANY_TEXT,
        },
    ),
    max_size=3,
)


def written(value: Any, ascii_only: bool, indent: int | None, mark: bytes) -> bytes:
    """Encode a JSON value in one of the ways in which programs write it."""
    return mark + json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(
        errors="surrogatepass"
    )


def files_of(values: SearchStrategy[Any]) -> SearchStrategy[bytes]:
    """Generate files that contain these values, encoded in several ways."""
    marks = st.sampled_from([b"", b"\xef\xbb\xbf", b" \r\n"])
    return st.builds(written, values, st.booleans(), st.none() | st.just(1), marks)


def mutated(raw: bytes, at: int, cut: int, piece: bytes) -> bytes:
    """Replace some bytes in the middle."""
    at %= len(raw) + 1
    return raw[:at] + piece + raw[at + cut :]


def nested(levels: int) -> bytes:
    """Return a message whose content is nested this many levels deep."""
    inner = b"[" * levels + b"]" * levels
    return b'[{"role":"user","content":[{"type":"x","y":%b}]}]' % inner


ODD_FILES = st.one_of(
    files_of(ODD_JSON),
    files_of(ODD_MESSAGES),
    st.binary(max_size=40),
    st.builds(
        mutated,
        files_of(MESSAGES),
        st.integers(0, 10_000),
        st.integers(0, 4),
        st.binary(max_size=3) | st.sampled_from([b"NaN", b"1e999", b"9" * 5000, b'"role":1,']),
    ),
    st.sampled_from([1, 190, 195, 196, 197, 210, 100_000]).map(nested),
    files_of(MESSAGES).map(lambda raw: raw.replace(b"{", b'{"content": "x",', 1)),
)


def holds(value: Any, raw: bytes) -> bool:
    """Return whether a value equals a file's JSON; 1, 1.0 and true differ, and keys may repeat."""
    texts = (json.dumps(value), raw.decode("utf-8-sig"))
    one, other = (repr(json.loads(text, object_pairs_hook=list)) for text in texts)
    return one == other


def body_or_refusal(read: Callable[[str], Any], path: Path) -> dict[str, Any] | UsageError:
    """Return the body of a request with this file as input, or the error that refuses the file."""
    try:
        return build_request(read(str(path)), PLAIN).body
    except UsageError as error:
        return error


@pytest.mark.slow
@slow(max_examples=100)
@given(messages=MESSAGES, data=st.data())
def test_messages_are_sent_unchanged(scratch: Path, messages: Any, data: st.DataObject) -> None:
    """An array of messages is accepted however it is encoded, and becomes the input unchanged."""
    count("fuzzed")
    path = scratch / "messages.json"
    raw = data.draw(files_of(st.just(messages)))
    path.write_bytes(raw)
    for read in (fields.read_messages, fields.read_input):
        body = build_request(read(str(path)), PLAIN).body
        assert body["input"] == messages
        assert holds(body["input"], raw)


@pytest.mark.slow
@slow(max_examples=200)
@given(raw=ODD_FILES)
def test_odd_input_files(scratch: Path, raw: bytes) -> None:
    """A file is either refused with an error that names it, or becomes the input unchanged."""
    count("fuzzed")
    path = scratch / "odd.json"
    path.write_bytes(raw)
    for read in (fields.read_messages, fields.read_input):
        body = body_or_refusal(read, path)
        if isinstance(body, UsageError):
            assert body.message.startswith((str(path), "The request can't be sent: input"))
        else:
            assert holds(body["input"], raw)


@shared(max_examples=30)
@given(
    raw=ODD_FILES | files_of(MESSAGES),
    option=st.sampled_from(["--messages-json-file", "--input-json-file"]),
)
def test_input_files_through_the_command(
    run: Callable[..., Result], sandbox: Sandbox, scratch: Path, raw: bytes, option: str
) -> None:
    """A dry run prints the request or one error, and sends nothing."""
    count("fuzzed")
    path = scratch / "input.json"
    path.write_bytes(raw)
    result = run("submit", option, str(path), "--dry-run")
    if result.code == 0:
        assert result.events == ["dry_run"]
        assert holds(result.last["body"]["input"], raw)
    else:
        assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
        assert result.last["outcome"] == "not_created"
    assert not sandbox.requests
