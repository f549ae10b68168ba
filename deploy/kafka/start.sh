#!/usr/bin/env bash
# Starts the broker, and before its first start gives its disk the login `admin`, by which it speaks to itself and init.sh
# to it. Kafka lies in KAFKA_HOME; CONFIG is server.properties, and SECRETS the folder with the file kafka_admin.
set -euo pipefail

kafka="${KAFKA_HOME:-/opt/kafka}"
config="${CONFIG:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/server.properties}"
secrets="${SECRETS:-/run/secrets}"
data="$(sed -n 's/^log\.dirs=//p' "$config")"

if [[ ! -f "$data/meta.properties" ]]; then
    cluster="$("$kafka/bin/kafka-storage.sh" random-uuid)"
    # Of the form NAME=VALUE, so that an id that begins with a dash is not taken for an option.
    "$kafka/bin/kafka-storage.sh" format "--cluster-id=$cluster" --config "$config" \
        --add-scram "SCRAM-SHA-512=[name=admin,password=$(<"$secrets/kafka_admin")]"
fi
exec "$kafka/bin/kafka-server-start.sh" "$config"
