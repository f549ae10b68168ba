#!/usr/bin/env bash
# Writes what is secret in this deployment into a folder, each into a file of its own: passwords drawn at random, and the
# files that hold one. What is there already stays. Usage: secrets.sh [FOLDER], by default `secrets` beside this file.
#
# The host names in the URLs are those of compose.yaml; KAFKA and CLICKHOUSE (host:port) name others.
set -euo pipefail

folder="${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/secrets}"
kafka="${KAFKA:-kafka:9092}"
clickhouse="${CLICKHOUSE:-clickhouse:9000}"
mkdir -p "$folder"
# The folder keeps others of the host out; the files are read by the users of the containers, which are not ours.
chmod 0700 "$folder"

keep() { # keep NAME: write standard input to a file, unless it is there
    if [[ -s "$folder/$1" ]]; then
        cat >/dev/null
    else
        cat >"$folder/$1.new"
        chmod 0444 "$folder/$1.new"
        mv "$folder/$1.new" "$folder/$1"
    fi
}

for name in clickhouse_admin clickhouse_{migrate,ingest,schedule,alert,read,review,operate} \
    kafka_{admin,publisher,consumer,operator} grafana_admin; do
    head -c 24 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n' | keep "$name"
done

# Keys of alerts: the one that signs webhooks, in the form of Standard Webhooks, and the one of links that acknowledge.
echo "whsec_$(head -c 32 /dev/urandom | base64 | tr -d '\n')" | keep alerts_webhook
head -c 32 /dev/urandom | base64 | tr -d '\n' | keep alerts_link

hash="$(printf %s "$(<"$folder/clickhouse_admin")" | sha256sum | cut -d ' ' -f 1)"
keep clickhouse_admin_xml <<<"<clickhouse><clickhouse_admin_sha256>$hash</clickhouse_admin_sha256></clickhouse>"
keep kafka_broker <<<"password=$(<"$folder/kafka_admin")"
keep kafka_admin_client <<END
security.protocol=SASL_PLAINTEXT
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="$(<"$folder/kafka_admin")";
END
login="security=SASL_PLAINTEXT&sasl_mechanism=SCRAM-SHA-512"
for name in publisher consumer operator; do
    keep "stream_$name" <<<"kafka://$name:$(<"$folder/kafka_$name")@$kafka?$login"
done
for login in migrate ingest schedule alert read review operate; do
    keep "store_$login" <<<"clickhouse://usageaudit_$login:$(<"$folder/clickhouse_$login")@$clickhouse/usageaudit"
done
