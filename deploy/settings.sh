# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables of deploy.sh
# The settings of an environment: read from .env.<environment>, or where there is no such file from variables of the same names.
# What can be generated or learned is written back to the file at once, so that it is made only once. The file is for its owner alone.

# Everything that a setting may be called here; each is kept in a variable named SETTING_<name>.
required_settings='DATABASE_URL KEAP_CLIENT_ID KEAP_CLIENT_SECRET'
generated_settings='ADMIN_API_TOKEN INTERNAL_TOKEN WAKE_TOKEN KEAP_WEBHOOK_SECRET TOKEN_ENCRYPTION_KEY'
learned_settings='KEAP_REDIRECT_URI WEBHOOK_PUBLIC_URL SYNC_PUBLIC_URL'
optional_settings='ENGINE_DATABASE_PASSWORD HYPERDRIVE_DATABASE_HOST CLOUDFLARE_API_TOKEN CLOUDFLARE_ACCOUNT_ID
ADMIN_API_TOKEN_PREVIOUS INTERNAL_TOKEN_PREVIOUS WAKE_TOKEN_PREVIOUS KEAP_WEBHOOK_SECRET_PREVIOUS TOKEN_ENCRYPTION_KEY_PREVIOUS METRICS_TOKEN
DEFAULT_ACCOUNT_ID ALLOWED_ORIGIN LOG_LEVEL OUTBOX_POLL_INTERVAL_MAX_MS
KEAP_API_BASE_URL KEAP_AUTHORIZE_URL KEAP_TOKEN_URL KEAP_CALLS_PER_SECOND KEAP_CALLS_PER_MINUTE KEAP_CALLS_PER_DAY'
all_settings="$required_settings $generated_settings $learned_settings $optional_settings"
# Names in the file that are other programs' business.
foreign_settings='KEAPSYNC_CACHE_DIR KEAPSYNC_TEST_DATABASE_URL KEAP_OPENAPI'

# Which settings go to which worker, as secrets and as variables.
secrets_of() {
    case $1 in
        coordinator) printf '%s' 'KEAP_CLIENT_SECRET KEAP_WEBHOOK_SECRET TOKEN_ENCRYPTION_KEY TOKEN_ENCRYPTION_KEY_PREVIOUS
            ADMIN_API_TOKEN ADMIN_API_TOKEN_PREVIOUS INTERNAL_TOKEN INTERNAL_TOKEN_PREVIOUS WAKE_TOKEN WAKE_TOKEN_PREVIOUS METRICS_TOKEN' ;;
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

# A text without blanks and line ends around it.
trimmed() {
    local text=$1
    text=${text#"${text%%[![:space:]]*}"}
    printf '%s' "${text%"${text##*[![:space:]]}"}"
}

# Takes what the environment has of settings out of it, before anything is started: the programs that install and build run what others
# wrote, and each of the others is given by name what it needs. A program can still look into the environment that this process was
# started with; who has secrets there, as in CI, builds in another job and deploys with --prebuilt.
keep_settings_to_this_process() {
    local name
    for name in $all_settings; do
        printf -v "GIVEN_$name" '%s' "${!name-}"
        unset "$name"
    done
}

# Reads every setting, once; what is missing is empty.
settings_are_read=no
read_settings() {
    local name value given
    if [ "$settings_are_read" = yes ]; then return; fi
    settings_are_read=yes
    for name in $all_settings; do
        # The file alone counts where there is one: a variable left over in somebody's shell must not choose the database.
        given=GIVEN_$name
        if [ -f "$settings_file" ]; then value=''; else value=$(trimmed "${!given-}"); fi
        set_setting "$name" "$value"
    done
    if [ ! -f "$settings_file" ]; then return; fi
    if [ "$dry_run" = no ]; then chmod 600 "$settings_file"; fi
    read_file "$settings_file" SETTING
}

# Reads lines of NAME=value, quotes around the value allowed, into variables named <prefix>_NAME. A line that it cannot read, or a name
# that nobody knows, would be a setting that silently does nothing. No message shows the line: it may be a secret.
read_file() {
    local file=$1 prefix=$2 line name value number=0 where known
    # shellcheck disable=SC2086 # lists of names
    known=" $(printf '%s ' $all_settings $foreign_settings)"
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        where="${file##*/}, line $number"
        if [ "$number" = 1 ]; then line=${line#$'\xef\xbb\xbf'}; fi
        line=$(trimmed "$line")
        case $line in '' | '#'*) continue ;; esac
        line=${line#export }
        name=${line%%=*}
        case $line in [A-Z]*=*) ;; *) name='?' ;; esac
        case $name in *[!A-Z0-9_]*) fail "$where is not of the form NAME=value" "write it so, without blanks around the =, or begin the line with #" ;; esac
        value=$(trimmed "${line#*=}")
        case $value in
            \"*\" | \'*\')
                [ ${#value} -ge 2 ] || fail "$where: the quotes of $name are not closed" "write the value and both quotes on one line"
                value=${value#?}
                value=${value%?}
                ;;
            \"* | \'*) fail "$where: the quotes of $name are not closed" "write the value and both quotes on one line" ;;
            *[[:space:]]'#'*) fail "$where: there is a comment behind the value of $name" "write the comment on a line of its own" ;;
        esac
        case $known in
            *" $name "*) printf -v "${prefix}_$name" '%s' "$value" ;;
            *) fail "$where: there is no setting $name" "look the name up in .env.example, or begin the line with #" ;;
        esac
    done <"$file"
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
        { line = $0; sub(/^[ \t]*(export )?/, "", line) }
        index(line, name "=") == 1 { if (!done) print name "=" value; done = 1; next }
        { print }
        END { if (!done) print name "=" value }' "$settings_file" >"$temporary"
    chmod 600 "$temporary"
    # Where the file is a link to another place, that place keeps it.
    if [ -L "$settings_file" ]; then
        cat "$temporary" >"$settings_file"
        rm -f "$temporary"
    else
        mv "$temporary" "$settings_file"
    fi
}

# What this run cannot do without. Secrets stay where they are in a run that sends none.
needed_settings() {
    if [ "$code_only" = yes ]; then
        printf 'DATABASE_URL KEAP_CLIENT_ID ADMIN_API_TOKEN'
    elif [ "$command" = validate ] && [ ! -f "$settings_file" ]; then
        printf 'DATABASE_URL KEAP_CLIENT_ID'
    else
        printf '%s' "$required_settings"
    fi
}

# What a person has to give: asked for where somebody sits at the terminal, else an error that names it.
require_settings() {
    local name value missing=''
    for name in $(needed_settings); do
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
    value=$(
        for name in $all_settings; do export "SETTING_$name"; done
        node deploy/values.cjs
    ) || fail "${value%%$'\n'*}" "${value#*$'\n'}"
    require_own_environment
}

# Makes the secrets that are missing. A deployment that exists has them already: new ones would lock out accounts and scripts.
generate_settings() {
    local name worker missing=''
    if [ "$code_only" = yes ]; then
        for worker in $workers; do
            worker_exists "$(worker_name "$worker")" || fail "$(worker_name "$worker") is not deployed, so there are no secrets that it could keep" \
                "run ./deploy.sh --env $environment without --code-only, on a machine that has .env.$environment"
        done
        detail "the workers keep the secrets that they have"
        return
    fi
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
