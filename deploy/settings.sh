# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables of deploy.sh
# The settings of an environment: read from .env.<environment>, or where there is no such file from variables of the same names.
# What can be generated or learned is written back to the file at once, so that it is made only once. The file is for its owner alone.

# Everything that a setting may be called here; each is kept in a variable named SETTING_<name>.
required_settings='DATABASE_URL KEAP_CLIENT_ID KEAP_CLIENT_SECRET'
generated_settings='ADMIN_API_TOKEN INTERNAL_TOKEN KEAP_WEBHOOK_SECRET TOKEN_ENCRYPTION_KEY'
learned_settings='KEAP_REDIRECT_URI WEBHOOK_PUBLIC_URL SYNC_PUBLIC_URL'
optional_settings='ENGINE_DATABASE_PASSWORD HYPERDRIVE_DATABASE_HOST CLOUDFLARE_API_TOKEN CLOUDFLARE_ACCOUNT_ID
ADMIN_API_TOKEN_PREVIOUS INTERNAL_TOKEN_PREVIOUS KEAP_WEBHOOK_SECRET_PREVIOUS TOKEN_ENCRYPTION_KEY_PREVIOUS METRICS_TOKEN
DEFAULT_ACCOUNT_ID ALLOWED_ORIGIN LOG_LEVEL OUTBOX_POLL_INTERVAL_MAX_MS
KEAP_API_BASE_URL KEAP_AUTHORIZE_URL KEAP_TOKEN_URL KEAP_CALLS_PER_SECOND KEAP_CALLS_PER_MINUTE KEAP_CALLS_PER_DAY'

# Which settings go to which worker, as secrets and as variables.
secrets_of() {
    case $1 in
        coordinator) printf '%s' 'KEAP_CLIENT_SECRET KEAP_WEBHOOK_SECRET TOKEN_ENCRYPTION_KEY TOKEN_ENCRYPTION_KEY_PREVIOUS
            ADMIN_API_TOKEN ADMIN_API_TOKEN_PREVIOUS INTERNAL_TOKEN INTERNAL_TOKEN_PREVIOUS METRICS_TOKEN' ;;
        webhook) printf '%s' 'KEAP_WEBHOOK_SECRET KEAP_WEBHOOK_SECRET_PREVIOUS INTERNAL_TOKEN INTERNAL_TOKEN_PREVIOUS' ;;
        sync) printf '%s' 'ADMIN_API_TOKEN ADMIN_API_TOKEN_PREVIOUS INTERNAL_TOKEN INTERNAL_TOKEN_PREVIOUS METRICS_TOKEN' ;;
    esac
}

variables_of() {
    case $1 in
        coordinator) printf '%s' 'KEAP_CLIENT_ID KEAP_REDIRECT_URI WEBHOOK_PUBLIC_URL KEAP_API_BASE_URL KEAP_AUTHORIZE_URL
            KEAP_TOKEN_URL KEAP_CALLS_PER_SECOND KEAP_CALLS_PER_MINUTE KEAP_CALLS_PER_DAY OUTBOX_POLL_INTERVAL_MAX_MS
            ALLOWED_ORIGIN LOG_LEVEL' ;;
        webhook) printf '%s' 'DEFAULT_ACCOUNT_ID ALLOWED_ORIGIN LOG_LEVEL' ;;
        sync) printf '%s' 'KEAP_API_BASE_URL ALLOWED_ORIGIN LOG_LEVEL' ;;
    esac
}

setting() {
    local variable=SETTING_$1
    printf '%s' "${!variable-}"
}

# shellcheck disable=SC2034 # read by name
set_setting() {
    printf -v "SETTING_$1" '%s' "$2"
}

# Reads every setting, once; what is missing is empty.
settings_are_read=no
read_settings() {
    local name line value
    if [ "$settings_are_read" = yes ]; then return; fi
    settings_are_read=yes
    for name in $required_settings $generated_settings $learned_settings $optional_settings; do
        # The file alone counts where there is one: a variable left over in somebody's shell must not choose the database.
        if [ -f "$settings_file" ]; then value=''; else value=${!name-}; fi
        set_setting "$name" "$value"
    done
    if [ ! -f "$settings_file" ]; then return; fi
    if [ "$dry_run" = no ]; then chmod 600 "$settings_file"; fi
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'}
        line=${line#export }
        case $line in '' | '#'* | [!A-Z]*) continue ;; esac
        case $line in *=*) ;; *) continue ;; esac
        name=${line%%=*}
        value=${line#*=}
        case $value in
            \"*\") value=${value#\"} value=${value%\"} ;;
            \'*\') value=${value#\'} value=${value%\'} ;;
        esac
        case $name in *[!A-Z0-9_]*) continue ;; esac
        set_setting "$name" "$value"
    done <"$settings_file"
}

# Writes one setting to the file, in the place of an empty or earlier line of its name. In CI there is no file to keep it in.
keep_setting() {
    local name=$1 value=$2 temporary
    set_setting "$name" "$value"
    if [ ! -f "$settings_file" ]; then return; fi
    temporary=$(mktemp "$settings_file.XXXXXX")
    # The value goes by the environment: an argument could be read by every user of the machine.
    NAME=$name VALUE=$value awk '
        BEGIN { name = ENVIRON["NAME"]; value = ENVIRON["VALUE"] }
        index($0, name "=") == 1 { if (!done) print name "=" value; done = 1; next }
        { print }
        END { if (!done) print name "=" value }' "$settings_file" >"$temporary"
    chmod 600 "$temporary"
    mv "$temporary" "$settings_file"
}

# What a person has to give: asked for where somebody sits at the terminal, else an error that names it.
require_settings() {
    local name value missing=''
    for name in $required_settings; do
        if [ -n "$(setting "$name")" ]; then continue; fi
        if [ -t 0 ] && [ -f "$settings_file" ] && [ "$command" = deploy ]; then
            printf '%s (not shown while you type; kept in %s): ' "$name" "${settings_file##*/}"
            read -rs value
            printf '\n'
            if [ -n "$value" ]; then keep_setting "$name" "$value"; fi
        fi
        if [ -z "$(setting "$name")" ]; then missing="$missing $name"; fi
    done
    if [ -n "$missing" ]; then
        if [ -f "$settings_file" ]; then
            fail "these settings are empty:$missing" "fill them in in ${settings_file##*/}; .env.example says what each is, docs/keap-setup.md where Keap shows them"
        fi
        fail "there is no ${settings_file##*/}, and these variables are not set:$missing" "copy .env.example to ${settings_file##*/} and fill it in; in CI set the variables"
    fi
    case $(setting DATABASE_URL) in
        postgres://*:*@*/* | postgresql://*:*@*/*) ;;
        *) fail "DATABASE_URL is not of the form postgres://user:password@host:5432/database" "copy it from Supabase: Connect, direct connection or session pooler (port 5432)" ;;
    esac
    case $(setting DATABASE_URL) in
        *:6543/*) fail "DATABASE_URL is Supabase's transaction pooler (port 6543), over which migrations can't run" "take the direct connection or the session pooler, port 5432" ;;
    esac
    for name in $learned_settings; do
        value=$(setting "$name")
        case ${value:-https://x} in
            https://*) ;;
            *) fail "$name does not begin with https://" "write the whole address, or leave it empty: the first deployment fills it in" ;;
        esac
    done
    value=$(setting KEAP_REDIRECT_URI)
    case ${value:-/oauth/callback} in
        */oauth/callback) ;;
        *) fail "KEAP_REDIRECT_URI does not end in /oauth/callback" "write https://<coordinator>/oauth/callback, exactly as at Keap" ;;
    esac
}

# Makes the secrets that are missing. A deployment that exists has them already: new ones would lock out accounts and scripts.
generate_settings() {
    local name missing=''
    for name in $generated_settings; do
        if [ -z "$(setting "$name")" ]; then missing="$missing $name"; fi
    done
    if [ -z "$missing" ]; then
        detail "all secrets are there"
        return
    fi
    if [ ! -f "$settings_file" ]; then
        fail "these variables are not set:$missing" "set them to the values of the first deployment; made anew in every run they would lock out all accounts"
    fi
    if worker_exists "$(worker_name coordinator)"; then
        fail "these are not in ${settings_file##*/}, but $(worker_name coordinator) is deployed and has them:$missing" \
            "copy them from the machine that deployed it; where they are lost, docs/security.md says how to set new ones"
    fi
    for name in $missing; do
        case $name in
            TOKEN_ENCRYPTION_KEY) generate "$name" -base64 32 ;;
            *) generate "$name" -hex 24 ;;
        esac
    done
}

# Makes one secret and keeps it before anything else has it.
generate() {
    local value
    value=$(openssl rand "$2" "$3") || fail "openssl made no random value for $1" "see the line above, and repeat the command"
    keep_setting "$1" "$value"
    detail "generated $1; it is in ${settings_file##*/}: keep a copy of that file in a safe place"
}

# Where a worker answers, without a slash at the end; empty while nobody knows.
url_of() {
    local url
    case $1 in
        coordinator)
            url=$(setting KEAP_REDIRECT_URI)
            url=${url%/oauth/callback}
            ;;
        webhook) url=$(setting WEBHOOK_PUBLIC_URL) ;;
        sync) url=$(setting SYNC_PUBLIC_URL) ;;
    esac
    printf '%s' "${url%/}"
}

learn_url() {
    if [ -n "$(url_of "$1")" ]; then return; fi
    case $1 in
        coordinator) keep_setting KEAP_REDIRECT_URI "$2/oauth/callback" ;;
        webhook) keep_setting WEBHOOK_PUBLIC_URL "$2" ;;
        sync) keep_setting SYNC_PUBLIC_URL "$2" ;;
    esac
    detail "$1 answers at $2"
}
