#!/usr/bin/env bash
# Makes usageaudit's database and logins (`apply.sh users`, before `usageaudit migrate`), or gives its views to the login
# that they read as (`apply.sh views`, after it). Both may be run again at any time.
#
# Passwords are read from files named clickhouse_LOGIN in the folder SECRETS; the server is CLICKHOUSE_HOST, and its
# port CLICKHOUSE_PORT. The login is `admin`, or CLICKHOUSE_USER.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
secrets="${SECRETS:-/run/secrets}"
database="${USAGEAUDIT_DATABASE:-usageaudit}"
export CLICKHOUSE_USER="${CLICKHOUSE_USER:-admin}"
CLICKHOUSE_PASSWORD="$(<"$secrets/clickhouse_admin")"
export CLICKHOUSE_PASSWORD

client() {
    clickhouse-client --host "${CLICKHOUSE_HOST:-127.0.0.1}" --port "${CLICKHOUSE_PORT:-9000}" "$@"
}

hash_of() {
    printf %s "$(<"$secrets/clickhouse_$1")" | sha256sum | cut -d ' ' -f 1
}

case "${1:-}" in
users)
    client --query "CREATE DATABASE IF NOT EXISTS \`$database\`"
    parameters=()
    for login in migrate ingest schedule alert read review operate; do
        parameters+=("--param_$login=$(hash_of "$login")")
    done
    client --database "$database" --queries-file "$here/users.sql" "${parameters[@]}"
    ;;
views)
    client --database "$database" --queries-file "$here/views.sql"
    ;;
*)
    echo "usage: apply.sh users|views" >&2
    exit 2
    ;;
esac
