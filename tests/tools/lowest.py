"""Prints the lowest version of each package that pyproject.toml allows, as constraints for pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def lowest(requirement: str) -> str:
    """Return a constraint: `rich==14` for `rich>=14,<16`."""
    found = re.match(r"([\w-]+)>=([\w.]+)", requirement)
    assert found is not None, requirement
    return "==".join(found.groups())


if __name__ == "__main__":
    for one in [*PROJECT["dependencies"], *EXTRAS["cost"], *EXTRAS["sandbox"]]:
        print(lowest(one))
