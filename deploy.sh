#!/usr/bin/env bash
# Deploys keapsync to Cloudflare and Supabase, proves that it works, and undoes it: `./deploy.sh --help`.
#
# Each step looks at what is there before it makes anything, so a run may be repeated at any time, also after one that was
# interrupted. Secrets go from .env.<environment> to where they belong by standard input: never as an argument, never into a log.
# This file reads the command line and orders the steps; the steps themselves are in deploy/.
set -euo pipefail

# The script may be called through a link, and CDPATH makes `cd` print.
script=${BASH_SOURCE[0]}
while [ -L "$script" ]; do
    target=$(readlink "$script")
    case $target in
        /*) script=$target ;;
        *) script=$(dirname "$script")/$target ;;
    esac
done
root=$(CDPATH='' cd "$(dirname "$script")" >/dev/null && pwd -P)
cd "$root"

# shellcheck source=deploy/output.sh
source deploy/output.sh
# shellcheck source=deploy/settings.sh
source deploy/settings.sh
# shellcheck source=deploy/environments.sh
source deploy/environments.sh
# shellcheck source=deploy/commands.sh
source deploy/commands.sh
# shellcheck source=deploy/cloudflare.sh
source deploy/cloudflare.sh
# shellcheck source=deploy/steps.sh
source deploy/steps.sh
# shellcheck source=deploy/validate.sh
source deploy/validate.sh
# shellcheck source=deploy/undo.sh
source deploy/undo.sh

usage() {
    cat <<'TEXT'
usage: ./deploy.sh [command] --env staging|production [options]

Commands
  (none)     deploy: database, then coordinator, webhook handler and sync worker, then a test of the whole
  validate   look at a deployment and change nothing
  rollback   put the release before back in place; the database stays as it is
  destroy    delete the workers with their objects, the KV namespace and the Hyperdrive configuration

Options
  --env staging|production   which environment; its settings are in .env.staging or .env.production (see .env.example)
  --dry-run                  say what would be done and how to undo it, and do nothing; needs no account
  --only STEP                one step: settings, build, database, namespace, hyperdrive, config, coordinator, webhook, sync,
                             secrets (sends the secrets alone) or check
  --code-only                deploy code and configurations; the workers keep the secrets that they have, as in CI
  --prebuilt                 take the workers in build/ and the program build/xtask as they are, and compile nothing: for CI, where a job
                             that has no secrets makes them
  --yes                      don't ask before deploying to production, attaching a domain or rolling back
  --to RELEASE               rollback: to this release in place of the one before
  --health-only              validate: only ask the three workers whether they are well
  --config-only              validate: only check settings and configurations, without an account
  -h, --help                 this text

Freshly deployed workers have 90 seconds to become well; KEAPSYNC_HEALTH_LIMIT_SECONDS changes that.
Where there is no .env file for the environment, as in CI, the settings are taken from variables of the same names.
docs/manual-setup.md does the same by hand, step by step. docs/keap-setup.md says what to do at Keap.
TEXT
}

command=''
environment=''
dry_run=no
assume_yes=no
only=''
to_release=''
validation=full
code_only=no
prebuilt=no

# Takes an option's value, once and not empty.
take() {
    [ -z "${!2}" ] || fail "$1 is given twice" "leave one of them out"
    [ -n "$3" ] || fail "$1 wants a value" "see ./deploy.sh --help"
    printf -v "$2" '%s' "$3"
}

while [ $# -gt 0 ]; do
    case $1 in
        validate | rollback | destroy)
            [ -z "$command" ] || fail "$command and $1 are two commands" "give one at a time"
            command=$1
            ;;
        --env | --only | --to)
            case $1 in
                --env) take "$1" environment "${2-}" ;;
                --only) take "$1" only "${2-}" ;;
                --to) take "$1" to_release "${2-}" ;;
            esac
            shift
            ;;
        --env=*) take --env environment "${1#*=}" ;;
        --only=*) take --only only "${1#*=}" ;;
        --to=*) take --to to_release "${1#*=}" ;;
        --dry-run) dry_run=yes ;;
        --yes) assume_yes=yes ;;
        --code-only) code_only=yes ;;
        --prebuilt) prebuilt=yes ;;
        --health-only | --config-only)
            [ "$validation" = full ] || fail "--health-only and --config-only are each one part of the validation" "give one of them, or none for all parts"
            validation=${1%-only}
            validation=${validation#--}
            ;;
        -h | --help | help)
            usage
            exit 0
            ;;
        *) fail "there is no option or command $1" "see ./deploy.sh --help" ;;
    esac
    shift
done

case $environment in
    staging | production) ;;
    '') fail "no environment is named" "add --env staging or --env production" ;;
    *) fail "there is no environment $environment" "use --env staging or --env production" ;;
esac
command=${command:-deploy}
case $only in *' '*) fail "there is no step $only" "use --only with one of: $all_steps" ;; esac
case " $all_steps " in
    *" ${only:-settings} "*) ;;
    *) fail "there is no step $only" "use --only with one of: $all_steps" ;;
esac
[ "$code_only" = no ] || [ "$command" = deploy ] || fail "--code-only belongs to deploying" "leave it out, or leave out $command"
[ "$code_only" = no ] || [ "$only" != secrets ] || fail "--code-only sends no secrets, and --only secrets nothing else" "leave out one of them"
case $health_limit in
    '' | *[!0-9]*) fail "KEAPSYNC_HEALTH_LIMIT_SECONDS is no whole number" "write the seconds without a unit, as in KEAPSYNC_HEALTH_LIMIT_SECONDS=90" ;;
esac
[ -z "$only" ] || [ "$command" = deploy ] || fail "--only belongs to deploying" "leave it out, or leave out $command"
[ -z "$to_release" ] || [ "$command" = rollback ] || fail "--to belongs to rollback" "write ./deploy.sh rollback --env $environment --to $to_release"
[ "$validation" = full ] || [ "$command" = validate ] || fail "--health-only and --config-only belong to validate" "write ./deploy.sh validate --env $environment --$validation-only"

keep_settings_to_this_process

# Ids, copies of the configurations, and how far a run came.
state_dir=$root/.keapsync/deploy/$environment
settings_file=$root/.env.$environment

if [ "$dry_run" = no ] && [ "$command" != validate ]; then take_lock; fi

case $command in
    deploy) deploy ;;
    validate) validate ;;
    rollback) roll_back ;;
    destroy) destroy ;;
esac
