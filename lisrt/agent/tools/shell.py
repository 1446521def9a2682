"""A shell that goes on from call to call.

Each call is a bash of its own, which first takes over what the one before has left: directory, variables, functions, aliases,
options, positional parameters, traps on signals, umask and `$?`. So a script that hangs, fills the memory or kills its shell ends
like any other command, with its whole tree and a known outcome, and costs nothing of what was set up before it. What can't be
taken over: the table of jobs (the processes live on, `wait` and `fg` don't know them) and open descriptors. Decision 21.
"""

from __future__ import annotations

__all__ = ["STATE", "argv"]

#: Where a shell's state is kept in the sandbox.
STATE = "/tmp/.lisrt-shell"

# $2: the state's file. $3: the script. What is named __lisrt_* is ours, and no part of the state.
#
# The scars: under `set -x` whatever is not in a group with its stderr thrown away shows; under `set -e` a builtin that says
# "no" ends the shell; `set -C` refuses `>`; `set -e` is off in a command substitution, so options are printed without one;
# functions and aliases of the script may have a builtin's name, so all is parsed before there are any. PATH may be broken:
# `command -p`. The file is replaced in one step: a call that is killed leaves the old one.
_PRELUDE = r"""
__lisrt_file=$2 __lisrt_script=$3 __lisrt_done= __lisrt_status=0 __lisrt_cwd=$PWD __lisrt_old=$PWD __lisrt_options=
set --
__lisrt_save() {
    __lisrt_status=$?
    if [ -n "$__lisrt_done" ]; then return "$__lisrt_status"; fi
    __lisrt_done=1
    {
        builtin printf '__lisrt_status=%s\n__lisrt_options='\''' "$__lisrt_status"
        builtin shopt -po allexport braceexpand errexit errtrace functrace hashall ignoreeof keyword noclobber noglob nounset \
            physical pipefail posix verbose xtrace || :
        builtin printf ''\''\n__lisrt_cwd=%q __lisrt_old=%q\numask ' "$PWD" "${OLDPWD-$PWD}"
        builtin umask
        builtin shopt -p || :
        builtin compgen -v | (
            builtin set +eux
            while IFS= builtin read -r __lisrt_name; do
                case $__lisrt_name in
                __lisrt_* | _ | BASH* | COMP_* | COPROC* | DIRSTACK | EPOCH* | EUID | FUNCNAME | GROUPS | HISTCMD) ;;
                LINENO | OLDPWD | PIPESTATUS | PPID | PWD | RANDOM | SECONDS | SHELLOPTS | SHLVL | SRANDOM | UID) ;;
                *) builtin declare -p -- "$__lisrt_name" ;;
                esac
            done
        )
        builtin trap -p HUP INT QUIT USR1 USR2 PIPE ALRM TERM CHLD CONT WINCH || :
        builtin printf 'set --'
        if [ $# -gt 0 ]; then builtin printf ' %q' "$@"; fi
        builtin printf '\n'
        builtin compgen -A function | (
            builtin set +eux
            while IFS= builtin read -r __lisrt_name; do
                case $__lisrt_name in
                __lisrt_*) ;;
                *) builtin declare -f -- "$__lisrt_name" ;;
                esac
            done
        )
        builtin declare -Fx || :
        builtin alias -p || :
        builtin printf '# whole\n' || false # a full disk is told by the last write
    } >|"$__lisrt_file.new" && builtin command -p mv -f -- "$__lisrt_file.new" "$__lisrt_file"
    return "$__lisrt_status"
}
__lisrt_say() { return "$1"; }
trap '{ __lisrt_save "$@"; } 2>/dev/null' EXIT
if [ -f "$__lisrt_file" ] && [ -r "$__lisrt_file" ]; then
    for __lisrt_name in $(compgen -e); do [ "$__lisrt_name" = PWD ] || unset -v "$__lisrt_name"; done
    { . "$__lisrt_file"; } 2>/dev/null
    builtin cd -- "$__lisrt_cwd" 2>/dev/null || builtin printf 'lisrt: the directory %s is gone\n' "$__lisrt_cwd" >&2
    OLDPWD=$__lisrt_old
fi
__lisrt_text=
while IFS= read -r __lisrt_name; do
    case $__lisrt_name in
    'set +o braceexpand' | 'set +o hashall' | 'set -o '[!bh]*) __lisrt_text+="$__lisrt_name; " ;;
    esac
done <<<"$__lisrt_options"
case $__lisrt_options in *'set -o errexit'*) __lisrt_status=0 ;; esac
[ -z "$__lisrt_text" ] || __lisrt_text+="{ __lisrt_say $__lisrt_status; } 2>/dev/null; "
__lisrt_text+=$__lisrt_script
__lisrt_say "$__lisrt_status"
"""

# On one line, so that messages count the script's lines from 1.
_PROGRAM = 'eval "$1"; eval "$__lisrt_text"; { __lisrt_save "$@"; } 2>/dev/null'


def argv(script: str) -> list[str]:
    """The command that runs `script` where the call before has ended. `rm -f STATE` makes it forget."""
    return ["bash", "-c", _PROGRAM, "bash", _PRELUDE, STATE, script]
