# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables of deploy.sh and of the files beside this one
# Looks at a deployment and changes nothing in it.

# How long freshly deployed workers may take until they are well, in seconds.
health_limit=${KEAPSYNC_HEALTH_LIMIT_SECONDS:-90}

validate() {
    say "Validating $environment ($validation)"
    if [ "$dry_run" = yes ]; then
        say "This changes nothing anyway; without --dry-run it is carried out."
        return
    fi
    read_settings
    mkdir -p "$state_dir" && chmod 700 "$state_dir"
    if [ "$validation" != health ]; then
        step_tools
        validate_config
    fi
    if [ "$validation" = full ]; then step_login; fi
    if [ "$validation" = full ]; then validate_cloudflare; fi
    if [ "$validation" = full ]; then validate_database; fi
    if [ "$validation" != config ]; then
        require_urls
        check_health
    fi
    if [ "$validation" = full ]; then smoke; fi
    say ''
    say "$environment is as it should be ($validation)"
}

require_urls() {
    local worker
    for worker in $workers; do
        [ -n "$(url_of "$worker")" ] || fail "the address of the $worker worker is not known" "KEAP_REDIRECT_URI, WEBHOOK_PUBLIC_URL and SYNC_PUBLIC_URL say it, in ${settings_file##*/}; the first deployment fills them in"
    done
}

# Settings and configurations, without an account: ids that are not known here stay as they are in the tracked files.
validate_config() {
    step config "settings are complete, and wrangler accepts the three configurations with the built workers" "nothing: it changes nothing"
    require_settings
    local worker gzipped
    if [ "$validation" = full ] && [ ! -f build/coordinator/index_bg.wasm ]; then
        detail "the workers are not built here, so what is deployed is looked at and not what would be"
        return
    fi
    [ -f build/coordinator/index_bg.wasm ] || fail "the workers are not built" "run ./deploy.sh --env $environment --only build, or cargo xtask build-worker"
    for worker in $workers; do
        cloudflare deploy --dry-run --config "wrangler-$worker.toml" --env "$environment"
        gzipped=$(printf '%s\n' "$wrangler_output" | sed -n 's/.*gzip: \([0-9.]*\) KiB.*/\1/p')
        detail "$worker: $gzipped KiB gzipped"
    done
}

validate_cloudflare() {
    step cloudflare "the KV namespace, the Hyperdrive configuration, the three workers and their secrets are there" "nothing: it changes nothing"
    local worker name present missing=''
    require_resources
    detail "KV namespace $namespace_id"
    require_uncached
    detail "Hyperdrive $hyperdrive_id, without caching"
    for worker in $workers; do
        worker_exists "$(worker_name "$worker")" || fail "$(worker_name "$worker") is not deployed" "run ./deploy.sh --env $environment"
        cloudflare secret list --name "$(worker_name "$worker")"
        present=" $(printf '%s\n' "$wrangler_output" | node deploy/read.cjs secrets | tr '\n' ' ') "
        for name in $(secrets_of "$worker"); do
            case $name in *_PREVIOUS | METRICS_TOKEN) continue ;; esac
            case $present in *" $name "*) ;; *) missing="$missing $worker/$name" ;; esac
        done
        detail "$(worker_name "$worker") and its secrets"
    done
    [ -z "$missing" ] || fail "these secrets are missing:$missing" "run ./deploy.sh --env $environment --only secrets"
}

validate_database() {
    step database "every migration is applied, with the content that its file has" "nothing: it changes nothing"
    local listed
    prepare_xtask
    listed=$(xtask DATABASE_URL -- migrate status) || fail "the database does not answer; the reason is above" "check DATABASE_URL and that the project is not paused"
    if printf '%s\n' "$listed" | grep -E 'missing$|changed since$' >&2; then
        fail "these migrations are not applied as their files have them" "missing: run ./deploy.sh --env $environment --only database. Changed: restore the file; a change belongs into a new one"
    fi
    detail "$(printf '%s\n' "$listed" | grep -c 'applied$') migrations"
}

# Asks the three workers until all are well: what was just deployed reaches every data centre after some seconds.
check_health() {
    local worker status deadline=$((SECONDS + health_limit))
    for worker in $workers; do
        while true; do
            status=$(curl --silent --max-time 20 --output "$state_dir/health-$worker.json" --write-out '%{http_code}' "$(url_of "$worker")/health" || true)
            # Another's page answers 200 too.
            if [ "$status" = 200 ] && [ -n "$(node deploy/read.cjs is-well "$state_dir/health-$worker.json" 2>/dev/null || true)" ]; then break; fi
            if [ "$SECONDS" -ge "$deadline" ]; then
                head -c 2000 "$state_dir/health-$worker.json" >&2 2>/dev/null || true
                printf '\n' >&2
                fail "$(url_of "$worker")/health answers ${status:-nothing} and not that it is healthy; the answer is above" \
                    "it names what is wrong. Logs: npx wrangler tail $(worker_name "$worker"). To undo the release: ./deploy.sh rollback --env $environment"
            fi
            sleep 3
        done
        detail "$worker is well: $(url_of "$worker")"
    done
}

smoke() {
    prepare_xtask
    xtask ADMIN_API_TOKEN -- smoke --coordinator-url "$(url_of coordinator)" --webhook-url "$(url_of webhook)" --sync-url "$(url_of sync)" ||
        fail "the test of the whole failed; what it found is above" "mend what it names, then ./deploy.sh --env $environment --only check. To undo the release: ./deploy.sh rollback --env $environment"
}
