"""`lrjax completion bash|zsh`: a script that completes commands, flags and files.

eval "$(lrjax completion bash)"        # in ~/.bashrc; zsh in ~/.zshrc
"""

import contextlib
import importlib
import io
import re
from collections.abc import Sequence

from lrjax.commands import COMMANDS
from lrjax.errors import check, nearest

SHELLS = {"bash": "", "zsh": "autoload -U +X compinit bashcompinit && compinit -u && bashcompinit\n"}
SCRIPT = """_lrjax() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
  if [[ $COMP_CWORD -eq 1 ]]; then
    words="{commands} --help --version"
  else
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  COMPREPLY=()
  while IFS= read -r found; do COMPREPLY+=("$found"); done < <(compgen -W "$words" -- "$word")
  if [[ $COMP_CWORD -gt 1 && $word != -* ]]; then
    while IFS= read -r found; do COMPREPLY+=("$found"); done < <(compgen -f -- "$word")
  fi
}}
complete -o filenames -F _lrjax lrjax
"""
WORDS = {"data": ["list", "prepare"], "completion": [*SHELLS]}


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Prints the script of a shell."""
    if set(arguments) & {"-h", "--help"}:
        print(f"usage: lrjax completion bash|zsh\n\n{__doc__}".rstrip())
        return 0
    check(len(arguments) == 1, 'name a shell: eval "$(lrjax completion bash)", or zsh')
    check(arguments[0] in SHELLS, f"there is no completion for {arguments[0]!r}; {nearest(arguments[0], SHELLS)}")
    print(script(arguments[0]), end="")
    return 0


def script(shell: str) -> str:
    """The script of a shell.

    Example:
        >>> "--workdir" in script("bash")
        True
    """
    rows = [f'    {name}) words="{" ".join([*WORDS.get(name, []), *flags_of(name)])}" ;;' for name in COMMANDS]
    return SHELLS[shell] + SCRIPT.format(commands=" ".join(COMMANDS), cases="\n".join(rows))


def flags_of(name: str) -> list[str]:
    """The flags of a command, read off its own help, so that there is one list of them.

    Example:
        >>> flags_of("list")
        ['--help']
    """
    said = io.StringIO()
    if name != "completion":
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            importlib.import_module(COMMANDS[name].module).main(["--help"], alone=False)
    return sorted({"--help", *re.findall(r"(?<![\w-])--[a-z_]+(?![\w.])", said.getvalue())})
