# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables of deploy.sh
# What the script says: steps, commands of a dry run, questions and errors. Every error says what to do next.

say() {
    printf '%s\n' "$*"
}

# Begins a step: its name, what it does, how to undo it.
step() {
    printf '\n==> %s: %s\n' "$1" "$2"
    printf '    undo: %s\n' "$3"
}

detail() {
    printf '    %s\n' "$*"
}

# In a dry run: a command that a real run would make.
would_run() {
    printf '    $ %s\n' "$*"
}

fail() {
    printf 'error: %s\n' "$1" >&2
    if [ $# -gt 1 ]; then printf 'next:  %s\n' "$2" >&2; fi
    exit 1
}

# Asks yes or no, unless --yes was given; without anybody to ask, no.
confirm() {
    if [ "$assume_yes" = yes ]; then return 0; fi
    local answer=''
    printf '%s [y/N] ' "$1"
    read -r answer || true
    case $answer in
        y | Y | yes) return 0 ;;
        *) fail "stopped: nothing was changed" "repeat the command and answer y, or add --yes" ;;
    esac
}
