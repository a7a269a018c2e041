# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables of deploy.sh
# The project's own commands, `cargo xtask`: compiled without any setting in their environment, then started with those that they need.

xtask_program=''

# Compiles the commands, once in a run. Compiling runs the build scripts of every dependency.
prepare_xtask() {
    if [ -n "$xtask_program" ]; then return; fi
    if [ "$prebuilt" = yes ]; then
        [ -x build/xtask ] || fail "build/xtask is not there, or no program" "build it where no secrets are, as in .github/workflows/deploy.yml, or leave --prebuilt out"
        xtask_program=$root/build/xtask
        return
    fi
    local messages
    messages=$(cargo build --quiet --locked --package keapsync-xtask --message-format json-render-diagnostics) ||
        fail "the project's commands do not build; the reason is above" "mend it and repeat the command"
    xtask_program=$(printf '%s\n' "$messages" | node deploy/read.cjs executable)
    [ -n "$xtask_program" ] || fail "cargo does not say where it put the project's commands" "see what cargo build --package keapsync-xtask says, and repeat the command"
}

# Runs such a command with the settings that are named before `--` in its environment, and no others. Wants prepare_xtask before it.
xtask() {
    local names=()
    while [ "$1" != -- ]; do
        names+=("$1")
        shift
    done
    shift
    (
        for name in ${names[@]+"${names[@]}"}; do export "$name=$(setting "$name")"; done
        # A quick build is for trying things out: neither small nor fast.
        unset KEAPSYNC_QUICK_WORKERS
        exec "$xtask_program" "$@"
    )
}
