#!/usr/bin/env python3
"""Copy the skill into a folder of skills, never over a user's edits.

usage: install.py DEST

DEST is a folder of skills, as .agents/skills, ~/.agents/skills or .claude/skills; the skill becomes
DEST/openai-background-mode. What was installed is noted there in `.installed.sha256`, so that a
later install can tell a user's edits from its own files: those it updates, and where there are
edits it changes nothing, names them, and ends with 1. Other files there stay as they are.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path, PurePosixPath

SOURCE = Path(__file__).resolve().parent / "openai-background-mode"
RECORD = ".installed.sha256"


class Refused(Exception):
    """Nothing was changed; the message says why, and what to do."""


def main(argv: list[str]) -> int:
    """Run the command; gives its exit code."""
    if len(argv) != 1 or not argv[0].strip():
        print(
            "Name the folder of skills, as: make install-skill DEST=~/.agents/skills",
            file=sys.stderr,
        )
        return 2
    try:
        print(install(Path(os.path.abspath(os.path.expanduser(argv[0]))) / SOURCE.name))
    except (Refused, OSError) as error:
        print(f"Not installed: {error}", file=sys.stderr)
        return 1
    return 0


def install(target: Path) -> str:
    """Make `target` the skill's folder, or bring it up to date; gives what was done.

    Raises:
        Refused: it would take something of the user's; nothing was changed.
        OSError: it can't be written. Only a failure while the files are renamed, at the very end,
            leaves some new and some old ones; installing again goes on there.
    """
    new = {path: (SOURCE / path).read_bytes() for path in source_files()}
    record = "".join(f"{sha256(new[path])}  {path}\n" for path in sorted(new)).encode()
    check_place(target)
    noted = read_record(target)
    present = {path: read(target, path) for path in {*new, *noted}}
    edited = [
        path
        for path, found in present.items()
        if found is not None and found != new.get(path) and sha256(found) != noted.get(path)
    ]
    if edited:
        raise Refused(
            f"these files in {target} were edited, or are not of this skill:\n"
            + "".join(f"  {path}\n" for path in sorted(edited))
            + "Move them (or the whole folder) elsewhere, install again, and bring your edits back."
        )
    if read(target, RECORD) == record and all(present[path] == new[path] for path in new):
        return f"{target} is up to date."
    fresh = not target.exists()
    # What is dropped is of an earlier version, and not edited.
    write(target, new, record, dropped=sorted(set(noted) - set(new)))
    return f"{'Installed' if fresh else 'Updated'} {target}."


def source_files() -> list[str]:
    """The files of the skill, relative to its folder."""
    return [
        path.relative_to(SOURCE).as_posix()
        for path in sorted(SOURCE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    ]


def check_place(target: Path) -> None:
    """Raise where nothing must be written, whatever is in it."""
    if target.is_symlink():
        raise Refused(f"{target} is a symbolic link, to {os.readlink(target)}; remove it first.")
    if target.exists() and not target.is_dir():
        raise Refused(f"{target} is a file; move it elsewhere first.")
    if SOURCE in [target.resolve(), *target.resolve().parents]:
        raise Refused(f"{target} is in the folder that is copied; choose another DEST.")


def read_record(target: Path) -> dict[str, str]:
    """What an earlier install has noted: the hash of each of its files."""
    lines = (read(target, RECORD) or b"").decode(errors="replace").splitlines()
    noted = [line.partition("  ") for line in lines]
    return {path: digest for digest, _, path in noted if is_inside(path)}


def is_inside(path: str) -> bool:
    """Whether a noted path is one in the folder, whoever has written it there."""
    return bool(path) and not PurePosixPath(path).is_absolute() and ".." not in path.split("/")


def read(target: Path, path: str) -> bytes | None:
    """A file in the installed folder; None where there is none.

    Raises:
        Refused: something else is in its place, or a symbolic link leads away from it.
    """
    place = target
    for part in PurePosixPath(path).parts:
        if place.exists() and not place.is_dir():
            raise Refused(f"{place} is no folder; move it elsewhere first.")
        place /= part
        if place.is_symlink():
            raise Refused(f"{place} is a symbolic link; put a copy of its file there, or move it.")
    if place.is_dir():
        raise Refused(f"{place} is a folder; move it elsewhere first.")
    return place.read_bytes() if place.exists() else None


def write(target: Path, new: dict[str, bytes], record: bytes, dropped: list[str]) -> None:
    """Write all files beside the folder first, so that a full disk changes nothing; then rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left, ignore_errors=True)  # of an install that was killed
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
    """The hash as `sha256sum` prints it."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
