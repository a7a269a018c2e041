# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables of deploy.sh and of the files beside this one
# Keeps staging and production apart: each has a database and addresses of its own. A copied environment file would otherwise take the
# other's domains over and give its database a password that its workers don't know, and the run would end well.

other_environment() {
    case $environment in staging) printf production ;; production) printf staging ;; esac
}

# Which database server an address on standard input leads to; roles, and so the workers' password, belong to the whole of one.
server_of() {
    node deploy/read.cjs database | node deploy/read.cjs server
}

# The hosts of the three workers among settings of a prefix, one a line.
public_hosts() {
    local name variable url
    for name in $learned_settings; do
        variable=$1_$name
        url=${!variable-}
        url=${url#https://}
        if [ -n "$url" ]; then printf '%s\n' "${url%%/*}" | tr '[:upper:]' '[:lower:]'; fi
    done
}

# Refuses settings that are the other environment's.
require_own_environment() {
    local other host file
    other=$(other_environment)
    file=$root/.env.$other
    for host in $(public_hosts SETTING); do
        case $host in
            *-"$other".*.workers.dev) fail "$host is an address of $other" "clear KEAP_REDIRECT_URI, WEBHOOK_PUBLIC_URL and SYNC_PUBLIC_URL: the first deployment fills them in" ;;
        esac
    done
    if [ ! -f "$settings_file" ] || [ ! -f "$file" ]; then return; fi
    # In a subshell: what the other file says must not stay.
    (
        read_file "$file" OTHER
        for host in $(public_hosts SETTING); do
            case " $(public_hosts OTHER | tr '\n' ' ')" in
                *" $host "*) fail "${settings_file##*/} and ${file##*/} have the same address $host" "give $environment addresses of its own; a file for a new environment begins as a copy of .env.example" ;;
            esac
        done
        if [ -n "${OTHER_DATABASE_URL-}" ] && [ "$(printf '%s' "$OTHER_DATABASE_URL" | server_of)" = "$(setting DATABASE_URL | server_of)" ]; then
            fail "${settings_file##*/} and ${file##*/} have the same database" "make a Supabase project for $environment and take DATABASE_URL from there"
        fi
    ) || exit 1
}

# Refuses a database that the other environment's Hyperdrive leads to, wherever that was deployed from. Wants find_hyperdrive before it.
require_own_database() {
    if [ -n "$hyperdrive_other" ] && [ "$hyperdrive_other" = "$(setting DATABASE_URL | server_of)" ]; then
        fail "DATABASE_URL is the database of $(other_environment)" "make a Supabase project for $environment and take DATABASE_URL from there"
    fi
}

# Asks before production is touched, and before a domain leads to a worker for the first time: whatever it led to is replaced.
confirm_deployment() {
    local worker host question='' domains=''
    case $only in
        '' | coordinator | webhook | sync)
            for worker in $workers; do
                host=$(url_of "$worker")
                host=${host#https://}
                case $host in '' | *.workers.dev) continue ;; esac
                if [ "$(cat "$state_dir/domain-$worker" 2>/dev/null || true)" != "$host" ]; then domains="$domains $host"; fi
            done
            ;;
    esac
    if [ -n "$domains" ]; then question="From now on these lead to the workers of $environment, whatever they lead to so far:$domains. "; fi
    if [ "$environment" = production ] || [ -n "$domains" ]; then confirm "${question}Deploy to $environment now?"; fi
}
