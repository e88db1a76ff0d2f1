"""The skill's installer copies the skill and never overwrites a user's edits."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent_shell import RUN, call
from places import ROOT, SKILL

if TYPE_CHECKING:
    from harness import Result

pytestmark = pytest.mark.process


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A copy of the skill and its installer, which a test may change into a new version."""
    copy = tmp_path / "version"
    shutil.copytree(ROOT / "examples" / "skill", copy)
    return copy


def install(source: Path, dest: Path) -> Result:
    """Run the installer of a version."""
    return call(sys.executable, source / "install.py", dest)


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("dest", ["{}/a b/'$skills", "~/.agents/skills", "link"])
def test_make_install_skill(tmp_path: Path, dest: str) -> None:
    """`make install-skill` copies the whole skill to DEST, with any Python."""
    (tmp_path / "real").mkdir()
    if dest == "link":
        (tmp_path / "link").symlink_to(tmp_path / "real")
        dest = f"{tmp_path}/link"
    place = dest.format(tmp_path)
    escaped = place.replace("$", "$$")  # make reads $$ as $
    argv = ["make", "-s", "install-skill", f"DEST={escaped}", f"PYTHON={sys.executable} -S"]
    done = call(*argv, cwd=ROOT, env=os.environ | {"HOME": str(tmp_path)})
    assert (done.code, done.err) == (0, "")
    installed = Path(place.replace("~", str(tmp_path))) / SKILL.name
    assert str(installed) in done.out.decode()
    found = files(installed)
    record = found.pop(".installed.sha256").decode()
    assert found == files(SKILL)
    assert os.access(installed / "scripts" / RUN.name, os.X_OK)
    for line in record.splitlines():
        digest, path = line.split("  ")
        assert hashlib.sha256(found[path]).hexdigest() == digest


def test_install_needs_a_destination() -> None:
    """Without DEST, nothing is copied, and stderr shows how to set it."""
    variables = {name: value for name, value in os.environ.items() if name != "DEST"}
    done = call("make", "-s", "install-skill", cwd=ROOT, env=variables)
    assert done.code != 0
    assert "DEST=~/.agents/skills" in done.err


def test_install_twice(version: Path, tmp_path: Path) -> None:
    """Installing the same version again changes nothing."""
    assert install(version, tmp_path).code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / SKILL.name).rglob("*")}
    again = install(version, tmp_path)
    assert (again.code, b"up to date" in again.out) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / SKILL.name).rglob("*")} == before


def test_install_beside_the_former_name(version: Path, tmp_path: Path) -> None:
    """If the skill is installed under its former name, too, the installer says to remove it."""
    former = tmp_path / "openai-background-mode"
    former.mkdir()
    (former / "SKILL.md").write_text("a folder of the user's")
    assert b"Remove" not in install(version, tmp_path).out
    (former / ".installed.sha256").write_text("")
    assert f"Remove {former}:" in install(version, tmp_path).out.decode()
    assert (former / "SKILL.md").exists()


def test_install_updates(version: Path, tmp_path: Path) -> None:
    """An update replaces unedited files, removes dropped ones, and keeps the user's own files."""
    installed = tmp_path / SKILL.name
    assert install(version, tmp_path).code == 0
    (installed / "scripts" / "mine.py").write_text("mine")
    (installed / "references" / "background_mode_notes.md").unlink()
    new = version / SKILL.name
    (new / "SKILL.md").write_text("new")
    (new / "scripts" / "launcher.py").unlink()
    (new / "assets").mkdir()
    (new / "assets" / "more.txt").write_text("more")
    assert install(version, tmp_path).code == 0
    found = files(installed)
    assert found.pop("scripts/mine.py") == b"mine"
    assert found.pop(".installed.sha256")
    assert found == files(new)
    assert b"up to date" in install(version, tmp_path).out


def test_install_completes_an_interrupted_update(version: Path, tmp_path: Path) -> None:
    """An update that was killed between two files is completed by the next install."""
    assert install(version, tmp_path).code == 0
    for path in ("SKILL.md", "scripts/launcher.py"):
        (version / SKILL.name / path).write_text("new")
    (tmp_path / SKILL.name / "SKILL.md").write_text("new")
    assert install(version, tmp_path).code == 0
    found = files(tmp_path / SKILL.name)
    assert found.pop(".installed.sha256")
    assert found == files(version / SKILL.name)


@pytest.mark.parametrize("gone", [True, False])
def test_install_refuses_over_edits(version: Path, tmp_path: Path, gone: bool) -> None:
    """If a file was edited, it is listed and nothing changes, even if the new version drops it."""
    installed = tmp_path / SKILL.name
    assert install(version, tmp_path).code == 0
    (installed / "SKILL.md").write_text("edited")
    (version / SKILL.name / "scripts" / "launcher.py").write_text("new")
    if gone:
        (version / SKILL.name / "SKILL.md").unlink()
    before = files(installed)
    result = install(version, tmp_path)
    assert (result.code, result.out) == (1, b"")
    assert "  SKILL.md\n" in result.err
    assert "launcher.py" not in result.err
    assert files(installed) == before


def test_install_refuses_over_other_files(version: Path, tmp_path: Path) -> None:
    """A folder of that name that was not installed is refused and not changed."""
    installed = tmp_path / SKILL.name
    installed.mkdir()
    (installed / "SKILL.md").write_text("mine")
    result = install(version, tmp_path)
    assert result.code == 1
    assert "  SKILL.md\n" in result.err
    assert files(installed) == {"SKILL.md": b"mine"}


def test_install_adopts_a_plain_copy(version: Path, tmp_path: Path) -> None:
    """A copy made by hand counts as installed, and can be updated later."""
    shutil.copytree(SKILL, tmp_path / SKILL.name)
    assert install(version, tmp_path).code == 0
    (version / SKILL.name / "SKILL.md").write_text("new")
    assert install(version, tmp_path).code == 0
    assert (tmp_path / SKILL.name / "SKILL.md").read_text() == "new"


@pytest.mark.parametrize("link", ["", "SKILL.md", "scripts", ".installed.sha256"])
def test_install_does_not_write_through_links(version: Path, tmp_path: Path, link: str) -> None:
    """The target of a symbolic link, for the folder or for a path in it, is not changed."""
    elsewhere, installed = tmp_path / "elsewhere", tmp_path / "skills" / SKILL.name
    shutil.copytree(SKILL, elsewhere)
    (elsewhere / ".installed.sha256").write_text("")
    if link:
        installed.mkdir(parents=True)
    else:
        installed.parent.mkdir()
    (installed / link).symlink_to(elsewhere / link)
    before = files(elsewhere)
    (version / SKILL.name / "SKILL.md").write_text("new")
    result = install(version, tmp_path / "skills")
    assert result.code == 1
    assert "symbolic link" in result.err
    assert files(elsewhere) == before


@pytest.mark.parametrize("place", ["SKILL.md", "scripts", ""])
def test_install_refuses_a_folder_for_a_file(version: Path, tmp_path: Path, place: str) -> None:
    """A folder in the place of a file, or the reverse, is named, and nothing changes."""
    target = tmp_path / SKILL.name / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if place == "SKILL.md":
        target.mkdir()
    else:
        target.write_text("mine")
    before = files(tmp_path)
    result = install(version, tmp_path)
    assert result.code == 1
    assert str(target) in result.err
    assert files(tmp_path) == before


def test_install_does_not_trust_the_record(version: Path, tmp_path: Path) -> None:
    """Files outside the folder that the record names are not removed."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    assert install(version, tmp_path).code == 0
    record = tmp_path / SKILL.name / ".installed.sha256"
    digest = hashlib.sha256(b"mine").hexdigest()
    record.write_text(f"{record.read_text()}{digest}  ../mine\n{digest}  {mine}\n")
    assert install(version, tmp_path).code == 0
    assert mine.read_text() == "mine"


def test_install_refuses_its_own_folder(version: Path) -> None:
    """The folder that is copied is refused as the destination."""
    result = install(version, version)
    assert result.code == 1
    assert not (version / SKILL.name / ".installed.sha256").exists()


def test_install_is_whole_or_not_at_all(version: Path, tmp_path: Path) -> None:
    """If the new files can't be written, the installed files are unchanged."""
    assert install(version, tmp_path).code == 0
    before = files(tmp_path / SKILL.name)
    big = version / SKILL.name / "scripts" / "zz.bin"
    big.write_bytes(b"x" * 100_000)
    (version / SKILL.name / "SKILL.md").write_text("new")
    limited = ("sh", "-c", 'ulimit -f 20; exec "$@"', "sh")
    done = call(*limited, sys.executable, version / "install.py", tmp_path)
    assert done.code == 1
    assert done.err.startswith("Not installed:")
    assert files(tmp_path / SKILL.name) == before
    assert not list(tmp_path.glob(f".{SKILL.name}*"))
