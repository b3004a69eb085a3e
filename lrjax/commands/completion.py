"""`lrjax completion bash|zsh`: a script that completes commands, flags, their values, configs with experiments, and files.

eval "$(lrjax completion bash)"        # in ~/.bashrc; zsh in ~/.zshrc
"""

import contextlib
import importlib
import io
import re
from collections.abc import Sequence

from lrjax.commands import COMMANDS
from lrjax.errors import check, nearest
from lrjax.experiment.config.listing import list_experiments

# bash cuts words at = and :, so the word is put together again, and what stands before the last cut is taken off each answer.
# Configs of the package are offered where they are no files, beside which they would be found twice.
BASH = r"""_lrjax() {
  local at=$COMP_CWORD whole="${COMP_WORDS[COMP_CWORD]}" words="" files=1 found cut
  while [[ $at -gt 2 && ( ${COMP_WORDS[at]} == [=:]* || ${COMP_WORDS[at-1]} == [=:]* ) ]]; do
    at=$((at - 1))
    whole="${COMP_WORDS[at]}$whole"
  done
  local value="$whole"
  if [[ $COMP_CWORD -eq 1 ]]; then
    words="@COMMANDS@" files=
  elif [[ $whole == --*=* ]]; then
    value="${whole#*=}"
    case "${COMP_WORDS[1]} ${whole%%=*}" in
@VALUES@
    esac
    [[ -n $words ]] && files=
  else
    case "${COMP_WORDS[1]}" in
@FLAGS@
    esac
    [[ $whole == -* ]] && files=
  fi
  if [[ " @TAKERS@ " == *" ${COMP_WORDS[1]} "* && ( $whole != --*=* || $whole == --config=* ) ]]; then
    [[ -e @CONFIG@ ]] || words="$words @CONFIGS@"
    [[ $value == *.py:* ]] && words="@EXPERIMENTS@" files=
  fi
  cut="${value%"${value##*[=:]}"}"
  COMPREPLY=()
  while IFS= read -r found; do COMPREPLY+=("${found#"$cut"}"); done < <(compgen -W "$words" -- "$value")
  if [[ -n $files ]]; then
    compopt -o filenames 2> /dev/null
    while IFS= read -r found; do COMPREPLY+=("${found#"$cut"}"); done < <(compgen -f -- "$value")
  elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
    compopt -o nospace 2> /dev/null
  fi
}
complete -F _lrjax lrjax
"""
ZSH = r"""(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
_lrjax() {
  local flag=${PREFIX%%=*} files=1
  local -a answers
  if (( CURRENT == 2 )); then
    compadd -- @COMMANDS@
    return
  fi
  if [[ $PREFIX == --*=* ]]; then
    compset -P '*='
    case "${words[2]} $flag" in
@VALUES@
    esac
    [[ -n $answers ]] && files=
  else
    case "${words[2]}" in
@FLAGS@
    esac
    [[ $PREFIX == -* ]] && files=
  fi
  if [[ " @TAKERS@ " == *" ${words[2]} "* && ( $flag == --config || -z $IPREFIX ) ]]; then
    [[ -e @CONFIG@ ]] || answers+=(@CONFIGS@)
    [[ $PREFIX == *.py:* ]] && answers=(@EXPERIMENTS@) files=
  fi
  compadd -S '' -- ${(M)answers:#*=}
  compadd -- ${answers:#*=}
  [[ -z $files ]] || _files
}
compdef _lrjax lrjax
"""
SCRIPTS = {"bash": (BASH, '    {}) words="{}" ;;'), "zsh": (ZSH, '    "{}") answers=({}) ;;')}
WORDS = {"data": ["list", "prepare", "cifar10"], "completion": [*SCRIPTS]}
TAKE_CONFIGS = ("run", "list", "sweep")


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Prints the script of a shell."""
    if set(arguments) & {"-h", "--help"}:
        print(f"usage: lrjax completion bash|zsh\n\n{__doc__}".rstrip())
        return 0
    check(len(arguments) == 1, 'name a shell: eval "$(lrjax completion bash)", or zsh')
    check(arguments[0] in SCRIPTS, f"there is no completion for {arguments[0]!r}; {nearest(arguments[0], SCRIPTS)}")
    print(script(arguments[0]), end="")
    return 0


def script(shell: str) -> str:
    """The script of a shell.

    Example:
        >>> "--workdir" in script("bash")
        True
    """
    text, case = SCRIPTS[shell]
    rows = list_experiments()
    configs = list(dict.fromkeys(row["config"] for row in rows))
    answers, values = {}, {}
    for name in COMMANDS:
        flags = flags_of(name)
        answers[name] = [*WORDS.get(name, []), *flags]
        values |= {f"{name} {flag.rstrip('=')}": choices for flag, choices in flags.items() if choices}
    quoted = {f'"{key}"' if shell == "bash" else key: words for key, words in values.items()}
    filled = {
        "COMMANDS": " ".join([*COMMANDS, "--help", "--version"]),
        "VALUES": "\n".join(case.format(key, " ".join(words)) for key, words in quoted.items()),
        "FLAGS": "\n".join(case.format(name, " ".join(words)) for name, words in answers.items()),
        "TAKERS": " ".join(TAKE_CONFIGS),
        "CONFIG": configs[0],
        "CONFIGS": " ".join(configs),
        "EXPERIMENTS": " ".join(f"{row['config']}:{row['experiment']}" for row in rows),
    }
    return re.sub("@([A-Z]+)@", lambda match: filled[match[1]], text)


def flags_of(name: str) -> dict[str, list[str]]:
    """The flags of a command and the values of each, read off its own usage, so that there is one list of them.

    Returns:
        Flag -> values that it may have, where there is a choice; a flag that needs a value ends in "=".

    Example:
        >>> flags_of("completion")
        {'--help': []}
    """
    said = io.StringIO()
    if name != "completion":
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            importlib.import_module(COMMANDS[name].module).main(["--help"], alone=False)
    usage = said.getvalue().partition("\n\n")[0]
    found: dict[str, list[str]] = {"--help": []}
    for flag, value in re.findall(r"\[(--[a-z_]+)[ =\n]*([^\s\]]+\]?)?\]", usage):
        choices = re.search(r"\{(.*)\}", value)
        needed = value and not value.startswith("[")
        found[f"{flag}=" if needed else flag] = choices[1].split(",") if choices else []
    return dict(sorted(found.items()))
