"""The architecture: what each folder may import, and which code may change an object."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import oaibg

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(oaibg.__file__).parent

BELOW = {
    "entry": {"cli", "process"},
    "cli": {"process", "many", "engine", "output", "api", "request", "state", "contract", "base"},
    "many": {"engine", "api", "request", "state", "contract", "base"},
    "engine": {"api", "request", "state", "contract", "base"},
    "process": {"output", "contract", "base"},
    "output": {"contract", "base"},
    "api": {"contract", "base"},
    "request": {"contract", "base"},
    "state": {"contract", "base"},
    "contract": {"base"},
    "base": set(),
    "sandbox": set(),
}
"""From a folder to the folders that it may import."""

OWNERS = {
    "openai": "api",
    "httpx2": "api",
    "genai_prices": "engine",
    "rich": "output/human",
    "markdown_it": "output/human",
    "typer": "cli",
    "sqlite3": "state",
    "starlette": "sandbox",
    "uvicorn": "sandbox",
    "python_multipart": "sandbox",
}
"""From a library to the only folder that may import it."""

LINES_MAX = 330


def modules() -> dict[str, Path]:
    """Return the package's modules by their dotted names."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = [*path.relative_to(ROOT.parent).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py"}


@cache
def tree(name: str) -> ast.Module:
    """Return a parsed module."""
    return ast.parse(MODULES[name].read_text())


@cache
def imported(name: str) -> frozenset[str]:
    """Return the modules that a module imports, including in functions and under TYPE_CHECKING.

    Both `from package import module` and `from module import name` count as the module.
    """
    package = name if name in PACKAGES else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            inner = {f"{source}.{alias.name}" for alias in node.names}
            found |= (inner & MODULES.keys()) or {source}
    return frozenset(found)


def folder(name: str) -> str:
    """Return the folder of a module, or the package's name for the package itself."""
    return name.split(".")[1] if "." in name else name


def arrows() -> Iterator[tuple[str, str]]:
    """Yield the imports within the package, except those of its version."""
    for name in MODULES:
        for other in imported(name):
            if other in MODULES and other not in (name, "oaibg"):
                yield name, other


def test_no_folder_imports_one_above_it() -> None:
    """A folder imports only folders below it, as listed in BELOW."""
    wrong = [
        f"{name} imports {other}"
        for name, other in arrows()
        if folder(name) != folder(other)
        and name != "oaibg.__main__"
        and folder(other) not in BELOW[folder(name)]
    ]
    assert wrong == []


def test_no_module_imports_itself_through_others() -> None:
    """There are no import cycles, even with the imports that are only for types."""
    left: dict[str, set[str]] = {name: set() for name in MODULES}
    for name, other in arrows():
        left[name].add(other)
    while ground := {name for name, others in left.items() if not others}:
        left = {name: others - ground for name, others in left.items() if name not in ground}
    assert left == {}


@pytest.mark.parametrize(("library", "home"), OWNERS.items())
def test_a_library_has_one_user(library: str, home: str) -> None:
    """Each library in OWNERS is imported in one folder only."""
    users = {
        name for name in MODULES if any(other.split(".")[0] == library for other in imported(name))
    }
    assert users
    others = {name for name in users if not MODULES[name].is_relative_to(ROOT / home)}
    assert others == set()


@pytest.mark.parametrize("place", ["engine", "many"])
def test_only_methods_change_an_object(place: str) -> None:
    """In these folders, only an object's own methods assign to its attributes."""
    wrong = [
        f"{name}:{target.lineno}: {ast.unparse(target)}"
        for name in MODULES
        if folder(name) == place
        for target in assigned(tree(name))
        if isinstance(target, ast.Attribute)
        if not (isinstance(target.value, ast.Name) and target.value.id == "self")
    ]
    assert wrong == []


def assigned(module: ast.Module) -> Iterator[ast.expr]:
    """Yield what a module assigns to or deletes; for `a.b[c]` that is `a.b`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Assign | ast.Delete):
            targets = list(node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.NamedExpr):
            targets = [node.target]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr"):
            targets = [ast.copy_location(ast.Attribute(node.args[0], "…", ast.Store()), node)]
        else:
            continue
        while targets:
            target = targets.pop()
            if isinstance(target, ast.Tuple | ast.List):
                targets += target.elts
            elif isinstance(target, ast.Starred | ast.Subscript):
                targets.append(target.value)
            else:
                yield target


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_small_and_has_a_docstring(name: str) -> None:
    """A module has at most LINES_MAX lines, and a docstring."""
    lines = MODULES[name].read_text().count("\n")
    assert lines <= LINES_MAX
    assert ast.get_docstring(tree(name))
