# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables of deploy.sh and of the files beside this one
# Going back: to the release before, or to nothing.

# What wrangler says of a worker's deployments and versions, in files for read.cjs.
fetch_history() {
    cloudflare deployments list --name "$(worker_name "$1")" --json
    printf '%s\n' "$wrangler_output" >"$state_dir/deployments-$1.json"
    cloudflare versions list --name "$(worker_name "$1")" --json
    printf '%s\n' "$wrangler_output" >"$state_dir/versions-$1.json"
}

current_release() {
    node deploy/read.cjs current "$state_dir/deployments-$1.json" "$state_dir/versions-$1.json"
}

# The workers that call go back before the one that is called.
roll_back() {
    step rollback "put the release before back in place: the workers' code and configurations; it is refused where secrets were changed since. The database stays: its migrations fit the release before (migrations/README.md)" \
        "./deploy.sh --env $environment deploys the present checkout again"
    if [ "$dry_run" = yes ]; then
        local worker
        for worker in sync webhook coordinator; do
            would_run "wrangler rollback VERSION --name $(worker_name "$worker") --message … --yes"
        done
        return
    fi
    mkdir -p "$state_dir" && chmod 700 "$state_dir"
    step_tools
    step_login
    local worker present target=$to_release version secrets
    read_settings
    for worker in $workers; do fetch_history "$worker"; done
    present=$(current_release coordinator)
    if [ -z "$target" ]; then
        target=$(node deploy/read.cjs previous "$state_dir/deployments-coordinator.json" "$state_dir/versions-coordinator.json")
    fi
    [ -n "$target" ] || fail "there is no release before $present among the last ten versions" "check out the commit that is wanted and run ./deploy.sh --env $environment"
    for worker in $workers; do
        version=$(node deploy/read.cjs version "$state_dir/versions-$worker.json" "$target")
        [ -n "$version" ] || fail "$(worker_name "$worker") has no version of release $target among its last ten" "check out the commit that is wanted and run ./deploy.sh --env $environment"
        if [ "$(current_release "$worker")" = "$target" ]; then continue; fi
        # A version brings the secrets of its time with it: an old TOKEN_ENCRYPTION_KEY would cut every account off.
        secrets=''
        if secrets_are_known; then secrets=$(secrets_digest "$worker"); fi
        [ -n "$(node deploy/read.cjs keeps-secrets "$state_dir/deployments-$worker.json" "$state_dir/versions-$worker.json" "$version" "$secrets")" ] ||
            fail "release $target of $(worker_name "$worker") may have other secrets than those in force, and a rollback would bring them back" \
                "check out the commit that is wanted (npx wrangler versions list --name $(worker_name "$worker") shows the releases' commits) and run ./deploy.sh --env $environment, which sends the present secrets"
    done
    say "Release $present is deployed; $target comes back"
    confirm "Roll $environment back?"
    for worker in sync webhook coordinator; do
        if [ "$(current_release "$worker")" = "$target" ]; then
            detail "$worker has it already"
            continue
        fi
        version=$(node deploy/read.cjs version "$state_dir/versions-$worker.json" "$target")
        cloudflare rollback "$version" --name "$(worker_name "$worker")" --message "rollback from $present to $target" --yes
        detail "$worker has release $target"
    done
    rm -f "$state_dir"/progress-*
    require_urls
    check_health
    if [ -n "$(setting ADMIN_API_TOKEN)" ]; then smoke; fi
    say ''
    say "$environment runs release $target"
}

destroy() {
    step destroy "delete the three workers of $environment, the KV namespace and the Hyperdrive configuration. With the coordinator go its objects: Keap's tokens, hooks and edits that wait, the history of runs. The database and what is at Keap stay" \
        "it can't be undone: ./deploy.sh --env $environment makes new ones, and every account has to be connected again"
    if [ "$dry_run" = yes ]; then
        local worker
        for worker in sync webhook coordinator; do would_run wrangler delete "$(worker_name "$worker")" --force; done
        would_run wrangler hyperdrive delete ID
        would_run wrangler kv namespace delete --namespace-id ID --skip-confirmation
        return
    fi
    mkdir -p "$state_dir" && chmod 700 "$state_dir"
    step_tools
    step_login
    say "Disconnect the accounts first (POST /oauth/revoke), which ends their hooks at Keap."
    local typed='' worker
    printf 'Type the name of the environment to delete it: '
    read -r typed 2>/dev/null || true
    say ''
    [ "$typed" = "$environment" ] || fail "that is not $environment: nothing was deleted" "repeat the command and type $environment"
    for worker in sync webhook coordinator; do
        if worker_exists "$(worker_name "$worker")"; then
            cloudflare delete "$(worker_name "$worker")" --force
            detail "$(worker_name "$worker") is deleted"
        else
            detail "$(worker_name "$worker") is not there"
        fi
    done
    find_hyperdrive
    if [ -n "$hyperdrive_id" ]; then
        cloudflare hyperdrive delete "$hyperdrive_id"
        detail "Hyperdrive $hyperdrive_id is deleted"
    fi
    find_namespace
    if [ -n "$namespace_id" ]; then
        cloudflare kv namespace delete --namespace-id "$namespace_id" --skip-confirmation
        detail "KV namespace $namespace_id is deleted"
    fi
    rm -rf "$state_dir"
    say ''
    say "$environment is deleted. ${settings_file##*/} and the database are still there: cargo xtask migrate down --to 0 (with DATABASE_URL set) empties the database"
}
