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
    # Without anybody there, an input that is closed included, nothing is answered.
    read -r answer 2>/dev/null || true
    case $answer in
        y | Y | yes) return 0 ;;
        *)
            printf '\n'
            fail "stopped: nothing was changed" "repeat the command and answer y, or add --yes"
            ;;
    esac
}

# Two runs at once would each generate secrets and overwrite the other's. The lock is a folder, which is made by one run only, and holds
# the process's number: the lock of a run that is no more is taken over.
take_lock() {
    local lock=$root/.keapsync/deploy/$environment.lock owner
    mkdir -p "${lock%/*}"
    if ! mkdir "$lock" 2>/dev/null; then
        owner=$(cat "$lock/pid" 2>/dev/null || true)
        if [ -z "$owner" ] || kill -0 "$owner" 2>/dev/null; then
            fail "another run for $environment is under way${owner:+ (process $owner)}" "wait until it has ended; if none is, delete ${lock#"$root"/} and repeat the command"
        fi
        # Of several who find it, one moves it away.
        mv "$lock" "$lock.$$" 2>/dev/null && rm -rf "$lock.$$"
        mkdir "$lock" 2>/dev/null || fail "another run for $environment is under way" "wait until it has ended, and repeat the command"
    fi
    printf '%s\n' "$$" >"$lock/pid"
    held_lock=$lock
    trap 'rm -rf "$held_lock"' EXIT
}
