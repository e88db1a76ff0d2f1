#!/usr/bin/env python3
"""Copy the skill into a skills directory without overwriting a user's edits.

usage: install.py DEST

DEST is a skills directory, such as .agents/skills, ~/.agents/skills or .claude/skills. The skill
is copied to DEST/openai-api-background-mode, with the hash of each file in `.installed.sha256`. A
later install updates the files that still have their recorded hash. If any file was edited, it
changes nothing, lists the edited files and exits with 1. It never touches other files in that
directory. If the skill is also installed there under its former name, it says so.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path, PurePosixPath

SOURCE = Path(__file__).resolve().parent / "openai-api-background-mode"
FORMER_NAME = "openai-background-mode"
RECORD = ".installed.sha256"


class Refused(Exception):
    """Nothing was changed; the message says why and what to do."""


def main(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    if len(argv) != 1 or not argv[0].strip():
        print(
            "Name the skills directory: make install-skill DEST=~/.agents/skills",
            file=sys.stderr,
        )
        return 2
    skills = Path(os.path.abspath(os.path.expanduser(argv[0])))
    try:
        print(install(skills / SOURCE.name))
        if (skills / FORMER_NAME / RECORD).exists():
            print(f"Remove {skills / FORMER_NAME}: it is this skill under its former name.")
    except (Refused, OSError) as error:
        print(f"Not installed: {error}", file=sys.stderr)
        return 1
    return 0


def install(target: Path) -> str:
    """Install or update the skill in `target`; return a message that says what was done.

    Raises:
        Refused: it would overwrite something of the user's; nothing was changed.
        OSError: a file can't be written. Nothing was changed, except if the failure was during the
            final renames: then some files are new and some old. Installing again completes it.
    """
    new = {path: (SOURCE / path).read_bytes() for path in source_files()}
    record = "".join(f"{sha256(new[path])}  {path}\n" for path in sorted(new)).encode()
    check_place(target)
    recorded = read_record(target)
    present = {path: read(target, path) for path in {*new, *recorded}}
    edited = [
        path
        for path, found in present.items()
        if found is not None and found != new.get(path) and sha256(found) != recorded.get(path)
    ]
    if edited:
        raise Refused(
            f"these files in {target} were edited or don't belong to this skill:\n"
            + "".join(f"  {path}\n" for path in sorted(edited))
            + "Move them (or the whole directory) elsewhere, install again, and redo your edits."
        )
    if read(target, RECORD) == record and all(present[path] == new[path] for path in new):
        return f"{target} is up to date."
    fresh = not target.exists()
    # The dropped files are unedited files of an earlier version.
    write(target, new, record, dropped=sorted(set(recorded) - set(new)))
    return f"{'Installed' if fresh else 'Updated'} {target}."


def source_files() -> list[str]:
    """Return the paths of the skill's files, relative to its folder."""
    return [
        path.relative_to(SOURCE).as_posix()
        for path in sorted(SOURCE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    ]


def check_place(target: Path) -> None:
    """Refuse a target that must not be written, whatever it contains."""
    if target.is_symlink():
        raise Refused(f"{target} is a symbolic link to {os.readlink(target)}; remove it first.")
    if target.exists() and not target.is_dir():
        raise Refused(f"{target} is a file; move it elsewhere first.")
    if SOURCE in [target.resolve(), *target.resolve().parents]:
        raise Refused(f"{target} is inside the directory that is copied; choose another DEST.")


def read_record(target: Path) -> dict[str, str]:
    """Return the hash of each file that an earlier install recorded."""
    lines = (read(target, RECORD) or b"").decode(errors="replace").splitlines()
    recorded = [line.partition("  ") for line in lines]
    return {path: digest for digest, _, path in recorded if is_inside(path)}


def is_inside(path: str) -> bool:
    """Whether a recorded path stays inside the folder: the record may have been edited."""
    return bool(path) and not PurePosixPath(path).is_absolute() and ".." not in path.split("/")


def read(target: Path, path: str) -> bytes | None:
    """Return the content of a file in the installed folder, or None if it doesn't exist.

    Raises:
        Refused: something other than a file is in its place, or a symbolic link is on its path.
    """
    place = target
    for part in PurePosixPath(path).parts:
        if place.exists() and not place.is_dir():
            raise Refused(f"{place} is not a directory; move it elsewhere first.")
        place /= part
        if place.is_symlink():
            raise Refused(f"{place} is a symbolic link; replace it by a copy of its target.")
    if place.is_dir():
        raise Refused(f"{place} is a directory; move it elsewhere first.")
    return place.read_bytes() if place.exists() else None


def write(target: Path, new: dict[str, bytes], record: bytes, dropped: list[str]) -> None:
    """Write all files next to the target, then rename them: a full disk changes nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left, ignore_errors=True)  # left by an install that was killed
    stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    stage.chmod(0o755)
    try:
        for path, content in new.items():
            (stage / path).parent.mkdir(parents=True, exist_ok=True)
            (stage / path).write_bytes(content)
            shutil.copymode(SOURCE / path, stage / path)
        (stage / RECORD).write_bytes(record)
        if not target.exists():
            stage.rename(target)
            return
        for path in dropped:
            (target / path).unlink(missing_ok=True)
        for path in [*new, RECORD]:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (stage / path).replace(target / path)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def sha256(content: bytes) -> str:
    """Return the hash as `sha256sum` prints it."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
