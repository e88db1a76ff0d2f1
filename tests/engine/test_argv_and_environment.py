"""Invalid commands, environment variables, and `--dry-run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox


@pytest.mark.parametrize(
    "argv",
    [
        ("monitor", "resp_1", "--job-key", "k"),
        ("monitor", "--results-file", "r.jsonl"),
        ("monitor", "resp_1", "--poll-seconds", "0"),
        ("monitor", "resp_1", "--poll-seconds", "nan"),
        ("monitor", "resp_1", "--max-wait-seconds", "inf"),
        ("monitor", "resp_1", "--events", "some"),
        ("monitor", "../x"),
        ("monitor", ".."),
        ("monitor", ""),
        ("monitor", "a\nb"),
        ("monitor", "resp_1\n"),
        ("monitor", "x" * 1025),
        ("cancel",),
        ("cancel", "r\u00e9sp"),
        ("show", "a/b"),
        ("show", "resp_1", "--job-key", "k"),
        ("show", "--limit", "1"),
        ("show", "--list", "--limit", "99999999999999999999"),
        ("show", "--list", "resp_1"),
        ("submit",),
        ("submit", "--prompt", ""),
        ("submit", "--prompt", "x", "--prompt-file", "y"),
        ("submit", "--prompt-file", "-", "--tools-json-file", "-"),
        ("submit", "--prompt", "x", "--model", ""),
        ("submit", "--prompt", "x", "--verbosity", "loud"),
        ("submit", "--prompt", "x", "--job-key", ""),
        ("submit", "--prompt", "x", "--resubmit-unknown"),
        ("submit", "--prompt", "x", "--max-output-tokens", "0"),
        ("submit", "--prompt", "x", "--metadata", "novalue"),
        ("submit", "--prompt", "x", "--output-json-file", "/"),
        ("submit", "--prompt", "x", "--output-json-file", "-"),
        ("submit", "--prompt", "x", "--output-json-file", "/no/such/folder/f"),
        ("submit", "--prompt", "x", "--output-json-file", "a", "--output-text-file", "a"),
        ("submit", "--prompt", "a\udc80b"),
        ("submit", "--nonsense"),
        ("nonsense",),
        ("--nonsense",),
    ],
    ids=lambda argv: " ".join(argv)[:60].encode("ascii", "backslashreplace").decode(),
)
def test_usage_errors(run: Callable[..., Result], sandbox: Sandbox, argv: tuple[str, ...]) -> None:
    """A usage error gives exit 2, one `error` event and a message on stderr, and sends nothing."""
    result = run(*argv)
    assert (result.code, result.events) == (2, ["error"])
    assert result.last["code"] == "usage"
    assert result.err.startswith("Error: ")
    assert not sandbox.requests


@pytest.mark.parametrize("extra", ["--human", "--list"])
def test_usage_error_with_output_text(run: Callable[..., Result], extra: str) -> None:
    """A usage error with --output-text leaves stdout empty, as it may go to a file."""
    result = run("show", "--output-text", extra)
    assert (result.code, result.out) == (2, b"")
    assert result.err.startswith("Error: ")


def test_option_as_a_value(run: Callable[..., Result]) -> None:
    """`--human` as the value of another option does not select human mode."""
    result = run("submit", "--prompt", "--human", "--messages-json-file", "x")
    assert (result.code, result.events) == (2, ["error"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_BASE_URL", "ftp://x"),
        ("OPENAI_BASE_URL", "nonsense"),
        ("OPENAI_BASE_URL", "http://["),
        ("OAIBG_KEEP_DAYS", "many"),
        ("OAIBG_KEEP_DAYS", "-1"),
    ],
)
def test_bad_environment(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """An invalid environment variable ends with exit 2, and the message names it."""
    monkeypatch.setenv(name, value)
    result = run("show")
    assert (result.code, result.last["code"]) == (2, "usage")
    assert name in result.last["message"]


def test_model_from_the_environment(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAIBG_MODEL sets the default model; --model overrides it."""
    monkeypatch.setenv("OAIBG_MODEL", "m1")

    def model(*options: str) -> Any:
        return run("submit", "--prompt", "x", "--dry-run", *options).last["body"]["model"]

    assert model() == "m1"
    assert model("--model", "m2") == "m2"
    monkeypatch.setenv("OAIBG_MODEL", "")
    assert model() == "gpt-5.2"


def test_empty_base_url_is_openais_own(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty OPENAI_BASE_URL counts as unset, although it would break the SDK."""
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    result = run("submit", "--prompt", "x", "--dry-run")
    assert result.last["url"] == "https://api.openai.com/v1/responses"


def test_dry_run_sends_nothing(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    """--dry-run emits the exact request and its hash without a key, and sends nothing."""
    monkeypatch.delenv("OPENAI_API_KEY")
    result = run("submit", "--prompt", "hi", "--dry-run")
    assert result.code == 0
    assert [result.last[key] for key in ("event", "method", "url")] == [
        "dry_run",
        "POST",
        f"{sandbox.base_url}/responses",
    ]
    assert not sandbox.requests
    assert not state.exists()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    real = run("submit", "--prompt", "hi", "--detach")
    assert real.lines[0]["request_sha256"] == result.last["request_sha256"]
    assert sandbox.posts[0].body == result.last["body"]


def test_deep_input_is_refused(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """JSON input that is nested too deeply is refused before anything is sent."""
    path = tmp_path / "i.json"
    for depth in (300, 960, 5000):
        path.write_text('[{"a":' + "[" * depth + "]" * depth + "}]")
        result = run("submit", "--input-json-file", str(path))
        assert (result.code, result.last["code"]) == (2, "usage")
        assert "nested too deeply" in result.last["message"]
    assert not sandbox.posts


def test_working_directory_that_is_gone(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt can be submitted from a working directory that no longer exists."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run("submit", "--prompt", "x", "--dry-run").code == 0
