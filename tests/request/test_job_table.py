"""Jobs files that are CSV or TSV tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from oaibg.contract.errors import OaibgError
from oaibg.request.body import Settings
from oaibg.request.jobs_file import JobsFile
from runs import BatchFiles, Files, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

SETTINGS = Settings(model="m", reasoning_effort="omit", verbosity="omit")


@pytest.fixture(params=["background", "batch"])
def table(request: pytest.FixtureRequest) -> Files:
    """The files of a run whose jobs are a table, in either mode."""
    name = {"background": "files", "batch": "batch"}[request.param]
    files: Files = request.getfixturevalue(name)
    files.jobs = files.folder / "jobs.csv"
    return files


ROWS = [
    ("prompt\na\nb\n", {"1": "a", "2": "b"}),
    ("prompt\r\na\r\nb", {"1": "a", "2": "b"}),
    ("\ufeffprompt\na\n", {"1": "a"}),
    ('\ufeff"custom_id","prompt"\n"x","é 漢"\n', {"x": "é 漢"}),
    ('id, Prompt ,CUSTOM_ID\n1,"say ""hi"", b",x\n', {"x": 'say "hi", b'}),
    ('prompt,n\n"two\nlines\r\n\n",1\nb,2\n', {"1": "two\nlines\r\n\n", "2": "b"}),
    ("\n\nprompt\n\na\n\n\nb\n\n", {"1": "a", "2": "b"}),
    ('prompt,custom_id\n5" disk,x\na,\n', {"x": '5" disk', "2": "a"}),
    ("custom_id;prompt\nx;a,b\n", {"x": "a,b"}),
    ("custom_id\tprompt\nx\ta,b\n", {"x": "a,b"}),
    ('"multi\nline",prompt\n1, a \n', {"1": " a "}),
    ("prompt\n\u2028a\x85\x1c\n", {"1": "\u2028a\x85\x1c"}),
]


@pytest.mark.parametrize(("content", "jobs"), ROWS)
def test_rows_are_jobs(
    run: Callable[..., Result], sandbox: Sandbox, table: Files, content: str, jobs: dict[str, str]
) -> None:
    """The prompt of a row is the input of its job, unchanged, in background mode and as a batch."""
    table.jobs.write_bytes(content.encode())
    assert run(*table.argv()).code == 0
    assert table.by_id().keys() == jobs.keys()
    if isinstance(table, BatchFiles):
        (post,) = sandbox.file_posts
        lines = sandbox.files[str(post.response_id)].content.splitlines()
        sent = [(one["custom_id"], one["body"]["input"]) for one in map(json.loads, lines)]
    else:
        starts = run(*table.argv("--dry-run")).lines[:-1]
        sent = [(one["custom_id"], one["body"]["input"]) for one in starts]
        assert sorted(post.body["input"] for post in sandbox.posts) == sorted(jobs.values())
    assert sent == list(jobs.items())


def test_tabs_separate_the_cells_of_a_tsv(run: Callable[..., Result], files: Files) -> None:
    """In a file named `.TSV` or `.tsv`, commas are part of a cell, and a quoted tab, too."""
    for name in ("jobs.tsv", "JOBS.TSV"):
        files.jobs = files.folder / name
        files.jobs.write_text('custom_id\tprompt\nx\ta, b\ny\t"c\td"\n')
        dry = run(*files.argv("--dry-run"))
        sent = {one["custom_id"]: one["body"]["input"] for one in dry.lines[:-1]}
        assert sent == {"x": "a, b", "y": "c\td"}


def test_a_large_cell(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A cell may have more than the 131,072 characters that Python's csv reads by default."""
    files.jobs = files.folder / "jobs.csv"
    prompt = "é\n" * 100_000
    files.jobs.write_text(f'prompt\n"{prompt}"\nb\n', newline="")
    assert run(*files.argv()).code == 0
    assert {post.body["input"] for post in sandbox.posts} == {prompt, "b"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\n\r\n", "the file is empty"),
        (b"prompt\n", "the file contains no jobs"),
        (b"prompt,Prompt \nx,y\n", "the header has the column prompt twice"),
        (b"prompt,custom_id,custom_id\n", "the header has the column custom_id twice"),
        (b"prompt,n\na,1\n\n,2\n", "row 2 (line 4): the prompt is empty"),
        (b'prompt,n\n"a\nb",1\n" ",2\n', "row 2 (line 4): the prompt is empty"),
        (b"prompt,n\na,b,1\n", "row 1 (line 2): expected 2 cells, as in the header, found 3; put"),
        (b"prompt;n\na\n", "found 1; write the semicolons of empty cells, too"),
        (b'prompt,n\na,1\n"b"c,2\nd,3\n', "row 2 (line 3): invalid CSV (',' expected after '\"')"),
        (b'prompt,n\na,1\n"b,2\nd,3\n', "row 2 (line 3): invalid CSV (unexpected end of data)"),
        (b'"prompt\na\n', "line 1: invalid CSV (unexpected end of data)"),
        (b"prompt\na\rb\n", "row 1 (line 2): invalid CSV (new-line character seen in unquoted"),
        (b"prompt\na\n\0\n", "row 2 (line 3): found a NUL character. Save the file as UTF-8"),
        (b'prompt\n"a\n\xe9"\n', "row 1 (line 3): byte 0 of the line is not UTF-8; the text looks"),
        (b"prompt,\xe9\n", "line 1: byte 7 of the line is not UTF-8; the text looks like"),
        ("prompt\na\n".encode("utf-16"), "the text looks like UTF-16, not UTF-8. Convert it"),
        (b"prompt,custom_id\na,x\nb,x\n", "row 2 (line 3): row 1 already has the custom_id 'x'"),
        (b"prompt,custom_id\na,2\nb,\n", "row 2 (line 3): row 1 already has the custom_id '2'"),
        (
            b"prompt,custom_id\n,a\nb,b\nc,b\n",
            "or delete the row. Give each row its own custom_id.",
        ),
        (b'prompt,custom_id\na,"x\n"\n', "row 1 (line 2): custom_id must be"),
        (b"prompt,custom_id\na," + b"x" * 513, "row 1 (line 2): custom_id must be"),
    ],
)  # fmt: skip
def test_a_bad_table(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: bytes, message: str
) -> None:
    """An error in a table names the row and the line, and nothing is sent or written."""
    files.jobs = files.folder / "jobs.csv"
    files.jobs.write_bytes(content)
    result = run(*files.argv())
    refused(result, sandbox, message)
    assert result.last["message"].startswith(f"{files.jobs}: ")
    assert not files.results.exists()


def test_bad_rows_are_reported_together(run: Callable[..., Result], files: Files) -> None:
    """One error names each mistake once, with up to five rows that have it."""
    files.jobs = files.folder / "jobs.csv"
    files.jobs.write_text("prompt,n\n" + ",1\n" * 8 + '"')
    message = run(*files.argv()).last["message"]
    assert message.count("the prompt is empty") == 1
    assert "row 5 (line 6), and 3 more: the prompt is empty; " in message


@pytest.mark.parametrize(
    ("header", "columns", "mend"),
    [
        ("id,question", "'id', 'question'", "Rename the column 'question' to prompt."),
        ("text,Prompt text", "'text', 'Prompt text'", "Rename the column 'Prompt text' to prompt."),
        ("frage", "'frage'", "Rename the column 'frage' to prompt."),
        ("a,b", "'a', 'b'", "a header with the column prompt and, optionally, custom_id;"),
        ("Text;Nr", "'Text', 'Nr'", "Rename the column 'Text' to prompt."),
        ("Nr\tText, English\tz", "'Nr', 'Text, English', 'z'", "a header with the column prompt"),
        ('"Text, English"', "'Text, English'", "a header with the column prompt"),
        ("text|nr", "'text|nr'", "Separate the cells with commas, semicolons or tabs. The first"),
    ],
)
@pytest.mark.parametrize("extension", [".csv", ".tsv"])
def test_a_table_without_prompts(
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    header: str,
    columns: str,
    mend: str,
    extension: str,
) -> None:
    """The error for a table without the column `prompt` lists its columns and names the likely.

    The columns are those of the header's own delimiter, whatever the extension.
    """
    files.jobs = files.folder / f"jobs{extension}"
    files.jobs.write_text(f"{header}\n1,2\n")
    words = (f"there is no column prompt; the columns are {columns}.", mend)
    refused(run(*files.argv()), sandbox, *words)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("prompt,custom_id\na,x\nb,x\n", "own custom_id. The default is the row's number."),
        ("prompt\n", "a header with the column prompt and, optionally, custom_id; each row below"),
        ("prompt,n\n,1\n", "Each row needs a prompt. Add it, or delete the row."),
        ("prompt\na,b\n", "Correct these rows, or delete them."),
    ],
)
def test_what_to_do_about_rows(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: str, hint: str
) -> None:
    """The hint of an error in a table is about that error; only an empty prompt needs a prompt."""
    files.jobs = files.folder / "jobs.csv"
    files.jobs.write_text(content)
    result = run(*files.argv())
    refused(result, sandbox, hint)
    assert ("needs a prompt" in result.last["hint"]) == (",1" in content)


@pytest.mark.parametrize("content", ['{"prompt": "a"}\n', '\ufeff\n [{"prompt": "a, b"}]'])
def test_json_that_is_named_like_a_table(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: str
) -> None:
    """The error for JSON in a file named `.csv` says to rename it."""
    files.jobs = files.folder / "jobs.csv"
    files.jobs.write_text(content)
    refused(run(*files.argv()), sandbox, "the file contains JSON", "ends in .jsonl.")


@pytest.mark.parametrize(
    ("name", "target"), [("jobs.csv", "upload.txt"), ("jobs", "upload.csv"), ("a.csv", "b.tsv")]
)
def test_a_link_to_a_table(
    run: Callable[..., Result], files: Files, name: str, target: str
) -> None:
    """The format of a link is that of its own extension, or else that of the file's."""
    (files.folder / target).write_text('prompt,n\n"a\nb",1\n')
    files.jobs = files.folder / name
    files.jobs.symlink_to(target)
    result = run(*files.argv("--job-key", "k"))
    assert (result.code, result.last["counts"]) == (0, {"completed": 1})
    assert run(*files.argv("--job-key", "k")).events == ["summary"]
    for path in (files.jobs, files.folder / target, files.results):
        assert run("show", str(path)).lines[0]["job_key"] == "k"


def test_a_link_to_lines(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A link whose extension is that of a table must lead to a table."""
    (files.folder / "lines.jsonl").write_text('{"prompt": "a"}\n')
    files.jobs = files.folder / "jobs.csv"
    files.jobs.symlink_to("lines.jsonl")
    refused(run(*files.argv()), sandbox, str(files.jobs), "ends in .jsonl.")


def test_a_table_that_changes_during_a_run(files: Files) -> None:
    """A row that changed after validation is not sent, and its other cells are not repeated."""
    files.jobs = files.folder / "jobs.csv"
    files.jobs.write_text('n,prompt,m\n1,a,x\n2,"b\n",y\n3,c,z\n')
    file = JobsFile(str(files.jobs), SETTINGS)
    assert file.columns == ["n", "m"]
    assert [file.cells(one) for one in file.lines] == [["1", "x"], ["2", "y"], ["3", "z"]]
    with files.jobs.open("r+") as writer:  # the same file, and the same length
        writer.write('n,prompt,m\n1,A,x\n2,"b\n",y\n3,"c,z\n'[: files.jobs.stat().st_size])
    assert file.request(file.lines[1]).body["input"] == "b\n"
    assert [file.cells(one) for one in file.lines] == [["", ""], ["2", "y"], ["", ""]]
    for number in (0, 2):
        with pytest.raises(OaibgError) as caught:
            file.request(file.lines[number])
        assert caught.value.code == "jobs_file_changed"
        assert f"row {number + 1} changed" in caught.value.message
    file.close()
