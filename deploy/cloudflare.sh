# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables of deploy.sh
# Everything that is asked of Cloudflare, by the pinned wrangler. What exists is found by its name, so nothing is made twice.

workers='coordinator webhook sync'

# Names at Cloudflare; the wrangler files have the same.
worker_name() {
    case $1 in
        coordinator) printf 'sync-coordinator-%s' "$environment" ;;
        webhook) printf 'webhook-handler-%s' "$environment" ;;
        sync) printf 'sync-worker-%s' "$environment" ;;
    esac
}

# The KV namespace and the Hyperdrive configuration.
resource_name() {
    printf 'keapsync-%s' "$environment"
}

config_copy() {
    printf '%s/wrangler-%s.toml' "$state_dir" "$1"
}

# Runs a program with wrangler's surroundings: the pinned tools first, no questions, no metrics, the account of the settings.
with_cloudflare() {
    local token account
    token=$(setting CLOUDFLARE_API_TOKEN)
    account=$(setting CLOUDFLARE_ACCOUNT_ID)
    (
        export PATH="$root/node_modules/.bin:$PATH" WRANGLER_SEND_METRICS=false CI=1 NO_COLOR=1 FORCE_COLOR=0 COLUMNS=400
        # The workers are built by a step of their own.
        export KEAPSYNC_WORKERS_PREBUILT=1
        if [ -n "$token" ]; then export CLOUDFLARE_API_TOKEN="$token"; fi
        if [ -n "$account" ]; then export CLOUDFLARE_ACCOUNT_ID="$account"; fi
        "$@"
    )
}

# Runs such a program with what it prints kept in $wrangler_output: what it says of errors is in there only when it fails.
wrangler_output=''
keep_output_of() {
    if wrangler_output=$(with_cloudflare "$@" 2>"$state_dir/wrangler-errors"); then return 0; fi
    wrangler_output="$wrangler_output
$(cat "$state_dir/wrangler-errors")"
    return 1
}

# wrangler; on failure its output is shown, with what to do next.
cloudflare() {
    if keep_output_of wrangler "$@"; then return 0; fi
    printf '%s\n' "$wrangler_output" >&2
    fail "wrangler $1 ${2-} failed; its output is above" "$(advice_for "$wrangler_output")"
}

# What helps against the failures that are met most.
advice_for() {
    case $1 in
        *"code: 10007"*) printf 'the worker is not deployed yet: run ./deploy.sh --env %s first' "$environment" ;;
        *"isn't currently deployed"*) printf 'the release that was rolled back to is not the newest: run the whole ./deploy.sh --env %s, which sends secrets with the code' "$environment" ;;
        *"code: 10143"*) printf 'a worker that this one is bound to is not there yet: run the whole ./deploy.sh --env %s, not one step' "$environment" ;;
        *"workers.dev subdomain"*) printf 'open Workers & Pages in the Cloudflare dashboard once, which chooses the name of your workers.dev addresses, then repeat the command' ;;
        *"code: 10000"* | *"Authentication error"* | *"not authenticated"*) printf 'run npx wrangler login, or set CLOUDFLARE_API_TOKEN; docs/manual-setup.md lists the rights it needs. Then repeat the command' ;;
        *"CPU limits"* | *"code: 100328"*) printf 'the account is on the free plan: keapsync needs Workers Paid (docs/costs.md). Change it in the dashboard, then repeat the command' ;;
        *) printf 'mend what it says and repeat the command: what is done already is not done twice' ;;
    esac
}

# Whether a worker is deployed. An answer that says neither yes nor no is a failure, not a no.
worker_exists() {
    if keep_output_of wrangler deployments list --name "$1" --json; then
        case $wrangler_output in *version_id*) return 0 ;; *) return 1 ;; esac
    fi
    case $wrangler_output in *"code: 10007"*) return 1 ;; esac
    printf '%s\n' "$wrangler_output" >&2
    fail "wrangler deployments list failed; its output is above" "$(advice_for "$wrangler_output")"
}

find_namespace() {
    cloudflare kv namespace list
    namespace_id=$(printf '%s\n' "$wrangler_output" | node deploy/read.cjs namespace "$(resource_name)")
}

# Sets hyperdrive_id and hyperdrive_caching, both empty when there is none, and hyperdrive_other: the server that the other environment's
# configuration leads to.
# shellcheck disable=SC2034 # read in steps.sh
find_hyperdrive() {
    local found
    cloudflare hyperdrive list
    found=$(printf '%s\n' "$wrangler_output" | node deploy/read.cjs hyperdrive "$(resource_name)")
    hyperdrive_id=${found%% *}
    hyperdrive_caching=${found#* }
    hyperdrive_other=$(printf '%s\n' "$wrangler_output" | node deploy/read.cjs hyperdrive-server "keapsync-$(other_environment)")
}

# How many connections Hyperdrive may hold to the database. It lends each for a transaction, so few serve many; Supabase's smallest
# session pooler gives 15 to everybody together.
hyperdrive_connections=10

# Creates or updates the Hyperdrive configuration; the password goes in by standard input.
write_hyperdrive() {
    local action=("$@") parts host port user database
    parts=$(engine_database) || exit 1
    read -r host port user database <<<"$parts"
    if keep_output_of node --no-warnings --require "$root/deploy/secret-argument.cjs" \
        "$root/node_modules/wrangler/wrangler-dist/cli.js" hyperdrive "${action[@]}" --origin-scheme postgresql --origin-host "$host" \
        --origin-port "$port" --origin-user "$user" --database "$database" --caching-disabled \
        --origin-connection-limit "$hyperdrive_connections" < <(setting ENGINE_DATABASE_PASSWORD); then
        return 0
    fi
    printf '%s\n' "$wrangler_output" >&2
    fail "wrangler hyperdrive ${action[0]} failed; its output is above" \
        "Hyperdrive logs in at $host as $user: see that the database is awake and reachable from the internet, then repeat the command. Supabase's session pooler helps where the direct host does not: set HYPERDRIVE_DATABASE_HOST (docs/manual-setup.md)"
}

# Host, port, user and database as Hyperdrive reaches them. A pooler of Supabase's knows a user by its name and the project's.
engine_database() {
    local parts host port owner database user=keapsync_engine other
    parts=$(setting DATABASE_URL | node deploy/read.cjs database) || fail "DATABASE_URL is no address" "copy it from Supabase: Connect, direct connection or session pooler (port 5432)"
    read -r host port owner database <<<"$parts"
    other=$(setting HYPERDRIVE_DATABASE_HOST)
    if [ -n "$other" ]; then host=$other; fi
    case $host in
        *.pooler.supabase.com)
            case $owner in
                *.*) user=keapsync_engine.${owner#*.} ;;
                *) fail "HYPERDRIVE_DATABASE_HOST is a pooler, but the user in DATABASE_URL does not name the project" "take DATABASE_URL from the session pooler too: its user is postgres.<project>" ;;
            esac
            ;;
    esac
    printf '%s %s %s %s' "$host" "$port" "$user" "$database"
}

# Copies a worker's wrangler file with ids, addresses and variables. `without-binding` leaves out the one to the sync worker.
write_config() {
    local worker=$1 pass=${2-last} name
    (
        for name in $(variables_of "$worker"); do export "SETTING_$name"; done
        VARIABLES=$(variables_of "$worker") NAMESPACE_ID=$namespace_id HYPERDRIVE_ID=$hyperdrive_id WORKER_URL=$(url_of "$worker") PASS=$pass \
            node deploy/read.cjs config "wrangler-$worker.toml" "$(config_copy "$worker")" "$root/build/$worker/index.js" "$environment"
    ) || fail "$(config_copy "$worker") could not be written" "see the line above; wrangler-$worker.toml must have its tables for $environment"
}

# The secrets of a worker as JSON, on standard output.
secrets_json() {
    (
        local name
        for name in $(secrets_of "$1"); do export "SETTING_$name"; done
        # shellcheck disable=SC2046 # a list of names
        node deploy/read.cjs secrets-json $(secrets_of "$1")
    )
}

# The secrets of a worker in sixteen digits, by which a rollback sees whether they were changed meanwhile.
secrets_digest() {
    local secrets
    secrets=$(secrets_json "$1") || exit 1
    printf '%s' "$secrets" | node deploy/read.cjs digest
}

# Whether this run has every secret that the workers need.
secrets_are_known() {
    local name
    for name in KEAP_CLIENT_SECRET $generated_settings; do
        if [ -z "$(setting "$name")" ]; then return 1; fi
    done
}

# What a release is: code and the tracked configurations. A rollback finds the versions of all three workers by it.
release_id() {
    local worker files=()
    for worker in $workers; do
        files+=("build/$worker/index.js" "build/$worker/index_bg.wasm" "wrangler-$worker.toml")
    done
    node deploy/read.cjs release "${files[@]}"
}

# Deploys one worker with its secrets, or with those that it has, under a tag; learns its address.
deploy_worker() {
    local worker=$1 tag=$2 record=$state_dir/deployed-$1.ndjson address host commit arguments secrets='' sent=kept
    commit=$(git rev-parse --short=12 HEAD 2>/dev/null || printf 'no commit')
    rm -f "$record"
    arguments=(deploy --config "$(config_copy "$worker")" --env "$environment")
    if [ "$code_only" = no ]; then
        secrets=$(secrets_json "$worker") || fail "the secrets of $worker could not be read" "see the line above"
        sent=$(secrets_digest "$worker")
        arguments+=(--secrets-file /dev/stdin)
    fi
    arguments+=(--tag "$tag" --message "keapsync $commit secrets $sent")
    if ! WRANGLER_OUTPUT_FILE_PATH=$record keep_output_of wrangler "${arguments[@]}" < <(printf '%s' "$secrets"); then
        printf '%s\n' "$wrangler_output" >&2
        fail "the $worker worker was not deployed; wrangler's output is above" "$(advice_for "$wrangler_output")"
    fi
    printf '%s\n' "$wrangler_output" | grep -E 'Total Upload|Current Version ID' | sed 's/^/    /' || true
    address=$(node deploy/read.cjs address <"$record")
    if [ -n "$address" ]; then
        learn_url "$worker" "$address"
        host=$(url_of "$worker")
        printf '%s\n' "${host#https://}" >"$state_dir/domain-$worker"
    elif [ -z "$(url_of "$worker")" ]; then
        fail "wrangler does not say where $(worker_name "$worker") answers" "enter its address in ${settings_file##*/} (KEAP_REDIRECT_URI, WEBHOOK_PUBLIC_URL, SYNC_PUBLIC_URL) and repeat the command"
    fi
}
