"""Shell completion: the scripts of the shells, where they are installed, and the values to offer.

Typer finds what can follow on a command line. Our scripts replace Typer's, which sort the values,
so that the newest key is not first, and which fail on keys with spaces, colons or quotes.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import get_args

from typer import completion

from oaibg.cli.options import Shell
from oaibg.contract.errors import UsageError

_CALL = "env _OAIBG_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args "
_CALL += "_TYPER_COMPLETE_ARGS="
"""What asks Typer for the values: one per line, after a tab its description if it has one."""

_BASH = """
_oaibg_completion() {
    local value line="${COMP_LINE:0:COMP_POINT}"
    local word="${line##* }" quote="${COMP_WORDS[COMP_CWORD]:0:1}"
    local before="${word%"$2"}"  # bash completes only what follows a colon or an equals sign
    COMPREPLY=()
    while IFS=$'\\t' read -r value _; do
        [[ -n $value ]] || continue
        [[ $quote == [\\"\\'] ]] || printf -v value %q "$value"
        COMPREPLY+=("${value#"$before"}")
    done < <(CALL"$line" "$1" 2>/dev/null)
}
complete -o nosort -o default -F _oaibg_completion oaibg 2>/dev/null ||
    complete -o default -F _oaibg_completion oaibg  # bash before 4.4
"""

_ZSH = """
#compdef oaibg
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
_oaibg_completion() {
    local -a values
    local value text
    while IFS=$'\\t' read -r value text; do
        [[ -n $value ]] && values+=("${value//:/\\\\:}${text:+:$text}")
    done < <(CALL"${words[1,CURRENT]}" oaibg 2>/dev/null)
    [[ $PREFIX == -*=* ]] && compset -P '*='
    if (( $#values )); then
        _describe -V value values
    else
        _files
    fi
}
compdef _oaibg_completion oaibg
"""

_FISH = """
function __oaibg_completion
    set -l word (commandline -ct)
    set -l option (string match -r '^-.*?=' -- $word)
    set -l values (CALL(commandline -cp) oaibg 2>/dev/null | string match -r '.+')
    set -q values[1]; or set values (__fish_complete_path (string replace -- "$option" '' $word))
    printf '%s\\n' "$option"$values
end
complete --command oaibg --no-files --keep-order --arguments '(__oaibg_completion)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: Shell) -> str:
    """Return the completion script of a shell."""
    return _SCRIPTS[shell].replace("CALL", _CALL).strip()


def install(shell: Shell) -> str:
    """Write a shell's completion script, make the shell read it, and return what was done."""
    path, startup = _places(shell)
    quoted = str(path).replace("'", r"'\''")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{script(shell)}\n")
        done = f"Wrote {path}."
        if startup is not None and _append(f"source '{quoted}'", startup):
            done += f"\nAdded a line to {startup} that reads it."
    except OSError as error:
        raise UsageError(
            f"Completion for {shell} can't be installed: {error.filename}: {error.strerror}.",
            hint=f"`oaibg --show-completion {shell}` prints the script. Save it to a file that "
            f"{shell} reads.",
        ) from error
    return f"{done}\nCompletion works in new shells."


def user_shell() -> list[str]:
    """Return the name of the user's shell, if it is one that has completion."""
    name = Path(os.environ.get("SHELL", "")).name
    return [name] if name in get_args(Shell) else []


def enable() -> None:
    """Make Typer answer a shell: it does so only if it has been asked for its own two options."""
    completion.get_completion_inspect_parameters()


def _places(shell: Shell) -> tuple[Path, Path | None]:
    """Return where the script goes, and the start-up file that must read it, if one must."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - it does not raise
    if not home.is_absolute():
        raise UsageError("The home directory is unknown. Set HOME to its absolute path.")
    if shell == "bash":
        return home / ".bash_completions/oaibg.sh", home / ".bashrc"
    if shell == "zsh":
        return home / ".zfunc/_oaibg", Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return folder / "fish/completions/oaibg.fish", None


def _append(line: str, path: Path) -> bool:
    """Append a line to a file, unless the file has it."""
    old = path.read_bytes() if path.exists() else b""
    if re.search(rb"^\s*" + re.escape(os.fsencode(line)) + rb"\s*$", old, re.MULTILINE):
        return False
    with path.open("ab") as file:
        file.write(b"\n" * (not old.endswith(b"\n") and old != b"") + os.fsencode(line) + b"\n")
    return True
