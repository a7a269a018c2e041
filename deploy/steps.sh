# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables of deploy.sh and of the files beside this one
# The steps of a deployment, in their order: first the database, then the code that reads it; the coordinator before those who call it.
# Each says what it does and how to undo it, does nothing that is done already, and only speaks in a dry run.

# shellcheck disable=SC2034 # read in deploy.sh
all_steps='settings build database namespace hyperdrive config coordinator webhook sync secrets check'

namespace_id=''
hyperdrive_id=''
hyperdrive_caching=''
# shellcheck disable=SC2034 # read in environments.sh
hyperdrive_other=''
release=''

deploy() {
    local steps='settings build database namespace hyperdrive config coordinator webhook sync check' name
    if [ -n "$only" ]; then steps=$only; fi
    say "Deploying keapsync to $environment: $steps"
    if [ "$dry_run" = yes ]; then say "A dry run: nothing is called and nothing is changed. Lines with \$ are what a real run would call."; fi
    if [ "$dry_run" = no ]; then mkdir -p "$state_dir" && chmod 700 "$state_dir"; fi
    step_tools
    step_login
    step_settings
    for name in $steps; do
        case $name in settings) ;; *) "step_$name" ;; esac
    done
    if [ -n "$only" ]; then
        say ''
        say "Done: $only"
        return
    fi
    finish
}

step_tools() {
    step tools "look for node, npm, cargo, curl and openssl, and install the pinned wrangler where it is missing" "delete node_modules"
    if [ "$dry_run" = yes ]; then
        would_run npm ci --no-audit --no-fund
        return
    fi
    local tool pinned present tools='node npm cargo curl openssl git'
    if [ "$prebuilt" = yes ]; then tools='node npm curl openssl git'; fi
    for tool in $tools; do
        command -v "$tool" >/dev/null || fail "$tool is missing" "install it (node and npm: https://nodejs.org, cargo: https://rustup.rs, the others: your system's packages) and repeat the command"
    done
    pinned=$(sed -n 's/^ *"wrangler": "\(.*\)".*/\1/p' package.json)
    present=$(with_cloudflare wrangler --version 2>/dev/null || true)
    if [ "${present##*[[:space:]]}" != "$pinned" ]; then
        npm ci --no-audit --no-fund --loglevel=error >&2 || fail "npm ci failed; its output is above" "check the network and repeat the command"
        present=$(with_cloudflare wrangler --version 2>/dev/null || true)
    fi
    [ "${present##*[[:space:]]}" = "$pinned" ] || fail "wrangler is ${present:-missing or does not start}, and $pinned is wanted" "see what node_modules/.bin/wrangler --version says (it wants Node 22.12 or newer), else delete node_modules; then repeat the command"
    detail "wrangler $pinned"
}

step_login() {
    step login "ask Cloudflare who is logged in" "npx wrangler logout"
    if [ "$dry_run" = yes ]; then
        would_run wrangler whoami --json
        return
    fi
    read_settings
    local accounts
    if ! keep_output_of wrangler whoami --json; then
        fail "nobody is logged in at Cloudflare" "run npx wrangler login, or set CLOUDFLARE_API_TOKEN in ${settings_file##*/}, and repeat the command"
    fi
    accounts=$(printf '%s\n' "$wrangler_output" | node deploy/read.cjs accounts)
    if [ -z "$(setting CLOUDFLARE_ACCOUNT_ID)" ]; then
        case $accounts in
            '') fail "the login has no account" "choose another token or login; docs/manual-setup.md lists the rights it needs" ;;
            *$'\n'*)
                printf '%s\n' "$accounts" | sed 's/^/    /' >&2
                fail "the login has several accounts; they are above" "set CLOUDFLARE_ACCOUNT_ID in ${settings_file##*/} to the one that is meant, and repeat the command"
                ;;
        esac
        set_setting CLOUDFLARE_ACCOUNT_ID "${accounts%% *}"
    fi
    detail "account $(setting CLOUDFLARE_ACCOUNT_ID)"
}

step_settings() {
    step settings "read ${settings_file##*/}, and generate the secrets that are missing into it" "edit ${settings_file##*/}"
    read_settings
    if [ "$dry_run" = yes ]; then
        local name
        for name in $required_settings; do
            if [ -z "$(setting "$name")" ]; then detail "$name is not set yet: enter it"; fi
        done
        for name in $generated_settings ENGINE_DATABASE_PASSWORD; do
            if [ -z "$(setting "$name")" ]; then detail "$name would be generated"; fi
        done
        for name in $learned_settings; do
            if [ -z "$(setting "$name")" ]; then detail "$name would be learned from the first deployment"; fi
        done
        return
    fi
    require_settings
    confirm_deployment
    generate_settings
}

step_build() {
    step build "build the three workers, each within its size budget (1.2 MB gzipped)" "delete build/"
    if [ "$dry_run" = yes ]; then
        if [ "$prebuilt" = no ]; then would_run cargo xtask build-worker; fi
        return
    fi
    if [ "$prebuilt" = yes ]; then
        local worker
        for worker in $workers; do
            [ -f "build/$worker/index_bg.wasm" ] || fail "the $worker worker is not in build/" "build it where no secrets are, as in .github/workflows/deploy.yml, or leave --prebuilt out"
        done
        detail "they were built before"
        return
    fi
    prepare_xtask
    xtask -- build-worker || fail "the workers do not build; the reason is above" "mend it and repeat the command"
}

step_database() {
    step database "apply the migrations that are missing over a direct connection, and give the workers' role its password" \
        "cargo xtask migrate down (with DATABASE_URL set; a rollback of the code needs none: migrations only add, see migrations/README.md)"
    if [ "$dry_run" = yes ]; then
        would_run "DATABASE_URL=… cargo xtask migrate up"
        would_run "DATABASE_URL=… ENGINE_DATABASE_PASSWORD=… cargo xtask engine-password"
        return
    fi
    find_hyperdrive
    require_own_database
    prepare_xtask
    xtask DATABASE_URL -- migrate up || fail "the migrations were not applied; the reason is above" \
        "check DATABASE_URL (Supabase's direct host needs IPv6: else take the session pooler, port 5432), see that the project is not paused, and repeat the command"
    if [ -z "$(setting ENGINE_DATABASE_PASSWORD)" ]; then
        if [ -n "$hyperdrive_id" ]; then
            detail "Hyperdrive has the workers' password already; it is left as it is"
            return
        fi
        generate ENGINE_DATABASE_PASSWORD -hex 24
    fi
    if [ -n "$hyperdrive_id" ] && [ "$(hyperdrive_digest)" = "$(recorded_hyperdrive_digest)" ]; then
        detail "the password is the one that Hyperdrive has"
        return
    fi
    xtask DATABASE_URL ENGINE_DATABASE_PASSWORD -- engine-password ||
        fail "the workers' role did not get its password; the reason is above" "DATABASE_URL must name the user who applied the migrations; mend it and repeat the command"
}

# What the Hyperdrive configuration was last made from.
hyperdrive_digest() {
    { engine_database && setting ENGINE_DATABASE_PASSWORD; } | openssl dgst -sha256 -r
}

recorded_hyperdrive_digest() {
    cat "$state_dir/hyperdrive-digest" 2>/dev/null || true
}

step_namespace() {
    step namespace "create the KV namespace $(resource_name), unless it exists" "./deploy.sh destroy --env $environment, or wrangler kv namespace delete --namespace-id ID"
    if [ "$dry_run" = yes ]; then
        would_run wrangler kv namespace list
        would_run wrangler kv namespace create "$(resource_name)"
        return
    fi
    find_namespace
    if [ -z "$namespace_id" ]; then
        cloudflare kv namespace create "$(resource_name)"
        find_namespace
        [ -n "$namespace_id" ] || fail "Cloudflare does not list the namespace $(resource_name), which it just created" "wait a minute and repeat the command"
    fi
    detail "$namespace_id"
}

step_hyperdrive() {
    step hyperdrive "create the Hyperdrive configuration $(resource_name) to the database, without caching, unless it exists" "./deploy.sh destroy --env $environment, or wrangler hyperdrive delete ID"
    if [ "$dry_run" = yes ]; then
        would_run wrangler hyperdrive list
        would_run "wrangler hyperdrive create $(resource_name) --origin-host … --origin-user keapsync_engine --caching-disabled --origin-connection-limit $hyperdrive_connections   (password by standard input)"
        return
    fi
    find_hyperdrive
    require_own_database
    if [ -z "$hyperdrive_id" ]; then
        [ -n "$(setting ENGINE_DATABASE_PASSWORD)" ] || fail "ENGINE_DATABASE_PASSWORD is not set" "run ./deploy.sh --env $environment --only database first, which makes it"
        write_hyperdrive create "$(resource_name)"
        find_hyperdrive
        [ -n "$hyperdrive_id" ] || fail "Cloudflare does not list the Hyperdrive configuration $(resource_name), which it just created" "wait a minute and repeat the command"
        hyperdrive_digest >"$state_dir/hyperdrive-digest"
    elif [ -z "$(setting ENGINE_DATABASE_PASSWORD)" ]; then
        require_uncached
    elif [ "$(hyperdrive_digest)" != "$(recorded_hyperdrive_digest)" ] || [ "$hyperdrive_caching" != uncached ]; then
        detail "its address or password is not the one of this machine's last run: updating it"
        write_hyperdrive update "$hyperdrive_id"
        hyperdrive_digest >"$state_dir/hyperdrive-digest"
    fi
    detail "$hyperdrive_id"
}

# A cached cursor or lease would be a wrong one.
require_uncached() {
    [ "$hyperdrive_caching" = uncached ] || fail "the Hyperdrive configuration $(resource_name) caches answers, which would make the sync read old data" \
        "run npx wrangler hyperdrive update $hyperdrive_id --caching-disabled, and repeat the command"
}

# Ids of what must be there by now.
require_resources() {
    if [ -z "$namespace_id" ]; then find_namespace; fi
    if [ -z "$hyperdrive_id" ]; then find_hyperdrive; fi
    [ -n "$namespace_id" ] || fail "there is no KV namespace $(resource_name)" "run the whole ./deploy.sh --env $environment, which creates it"
    [ -n "$hyperdrive_id" ] || fail "there is no Hyperdrive configuration $(resource_name)" "run the whole ./deploy.sh --env $environment, which creates it"
}

step_config() {
    step config "write the workers' configurations with these ids into ${state_dir#"$root"/}; the tracked files stay as they are" "delete ${state_dir#"$root"/}"
    if [ "$dry_run" = yes ]; then return; fi
    require_resources
    local worker
    for worker in $workers; do
        write_config "$worker"
        detail "$(config_copy "$worker")"
    done
}

# Makes sure that code and configurations are the present ones and that the release is known.
prepare_release() {
    if [ -n "$release" ]; then return; fi
    if [ -n "$only" ]; then
        step_build
        step_config
    fi
    [ -f build/coordinator/index_bg.wasm ] || fail "the workers are not built" "run ./deploy.sh --env $environment --only build first"
    release=$(release_id)
}

# Two workers are bound to each other, and the platform refuses a binding to a worker that does not exist. So a first deployment
# begins with a coordinator without that binding; its address and the others' become known on the way, and it is deployed again
# at the end. No account is connected by then, so nobody notices. A deployment that is whole must know its addresses beforehand.
first_pass=no
choose_passes() {
    if ! worker_exists "$(worker_name sync)"; then
        [ -z "$only" ] || fail "the sync worker is not deployed yet, to which the coordinator is bound" "run the whole ./deploy.sh --env $environment"
        first_pass=without-binding
        touch "$state_dir/first-deployment"
    elif [ -n "$(url_of coordinator)" ] && [ -n "$(url_of webhook)" ] && [ -n "$(url_of sync)" ]; then
        first_pass=no
    elif [ -f "$state_dir/first-deployment" ] && [ -z "$only" ]; then
        first_pass=with-binding
    else
        fail "$environment is deployed, but its addresses are not known here" "enter KEAP_REDIRECT_URI, WEBHOOK_PUBLIC_URL and SYNC_PUBLIC_URL in ${settings_file##*/} (in CI: as variables); the dashboard shows each worker's address"
    fi
}

step_coordinator() {
    step coordinator "deploy the coordinator with its secrets" "./deploy.sh rollback --env $environment"
    if [ "$dry_run" = yes ]; then
        detail "a first deployment deploys it without its binding to the sync worker, which is not there yet, and again as its last step"
        would_run_deploy coordinator
        return
    fi
    prepare_release
    choose_passes
    if [ "$first_pass" = no ]; then
        deploy_once coordinator
        return
    fi
    detail "first pass, $first_pass"
    write_config coordinator "$first_pass"
    deploy_worker coordinator first-pass
}

step_webhook() {
    step webhook "deploy the webhook handler with its secrets" "./deploy.sh rollback --env $environment"
    if [ "$dry_run" = yes ]; then
        would_run_deploy webhook
        return
    fi
    prepare_release
    deploy_once webhook
}

step_sync() {
    step sync "deploy the sync worker with its secrets and its crons" "./deploy.sh rollback --env $environment"
    if [ "$dry_run" = yes ]; then
        would_run_deploy sync
        return
    fi
    prepare_release
    deploy_once sync
    if [ "$first_pass" != no ]; then
        step coordinator "second pass: with the binding to the sync worker, and with the addresses that are known now" "./deploy.sh rollback --env $environment"
        write_config coordinator
        deploy_once coordinator
    fi
}

would_run_deploy() {
    local secrets=''
    if [ "$code_only" = no ]; then secrets=' --secrets-file /dev/stdin'; fi
    would_run "wrangler deploy --config ${state_dir#"$root"/}/wrangler-$1.toml --env $environment$secrets --tag RELEASE --message COMMIT"
}

# Deploys a worker, unless an interrupted run got so far with the same release, configuration and secrets, and the worker still runs the
# version that was made then. There is one mark for each worker, that of its last deployment.
deploy_once() {
    local mark file=$state_dir/progress-$1 version=''
    mark="$release $(openssl dgst -sha256 -r <"$(config_copy "$1")") $([ "$code_only" = yes ] || secrets_digest "$1")"
    if [ -z "$only" ] && [ -f "$file" ]; then
        if worker_exists "$(worker_name "$1")"; then version=$(printf '%s\n' "$wrangler_output" | node deploy/read.cjs live-version); fi
        if [ "$(cat "$file")" = "$mark $version" ]; then
            detail "$1 has release $release since the run that was interrupted"
            return
        fi
    fi
    rm -f "$file"
    deploy_worker "$1" "$release"
    version=$(node deploy/read.cjs made-version <"$state_dir/deployed-$1.ndjson")
    if [ -z "$only" ] && [ -n "$version" ]; then printf '%s\n' "$mark $version" >"$file"; fi
    detail "$1 has release $release"
}

step_secrets() {
    step secrets "send the secrets of ${settings_file##*/} to the three workers, which restart with them; code and configurations stay" "send the earlier ones again"
    local worker secrets
    for worker in $workers; do
        if [ "$dry_run" = yes ]; then
            would_run "wrangler secret bulk --name $(worker_name "$worker")   (by standard input: $(secrets_of "$worker" | tr -s ' \n' ' '))"
            continue
        fi
        worker_exists "$(worker_name "$worker")" || fail "$(worker_name "$worker") is not deployed" "run the whole ./deploy.sh --env $environment, which sends secrets with the code"
        secrets=$(secrets_json "$worker") || fail "the secrets of $worker could not be read" "see the line above"
        if ! keep_output_of wrangler secret bulk --name "$(worker_name "$worker")" < <(printf '%s' "$secrets"); then
            printf '%s\n' "$wrangler_output" >&2
            fail "the secrets of $(worker_name "$worker") were not sent; wrangler's output is above" "$(advice_for "$wrangler_output")"
        fi
        detail "$(worker_name "$worker")"
    done
}

step_check() {
    step check "ask the workers whether they are well, and prove the way to the database, KV and the objects" "nothing: it changes nothing"
    if [ "$dry_run" = yes ]; then
        would_run curl "https://…/health   (each of the three)"
        would_run "ADMIN_API_TOKEN=… cargo xtask smoke --coordinator-url … --webhook-url … --sync-url …"
        return
    fi
    check_health
    smoke
}

finish() {
    say ''
    if [ "$dry_run" = yes ]; then
        say "That is the whole plan. Without --dry-run it is carried out; docs/manual-setup.md has the same steps by hand."
        return
    fi
    rm -f "$state_dir"/progress-* "$state_dir/first-deployment"
    local coordinator webhook
    coordinator=$(url_of coordinator)
    webhook=$(url_of webhook)
    say "$environment runs release $release. Nothing is registered at Keap yet but what you connect:"
    say "  1. At Keap, enter as the application's redirect address: $(setting KEAP_REDIRECT_URI)"
    say "  2. Connect an account: open the connect_url that this answers with in a browser:"
    say "       curl -X POST -H \"Authorization: Bearer \$ADMIN_API_TOKEN\" -d '{\"keap_account_id\":\"main\"}' $coordinator/oauth/initiate"
    say "     (ADMIN_API_TOKEN is in ${settings_file##*/})"
    say "  3. Hooks are registered by themselves when the account is connected; they come to $webhook/webhook/…"
    say "What can go wrong and what to do: docs/keap-setup.md. Undo this release: ./deploy.sh rollback --env $environment"
}
