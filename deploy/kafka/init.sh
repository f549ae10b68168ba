#!/usr/bin/env bash
# Makes the topic, the logins of publishers, the consumer and operators, and what each may do. It may be run again at any
# time: passwords and rights are then those of now; the topic's partitions and settings stay as they are.
#
# Kafka's tools lie in KAFKA_HOME, the broker is BOOTSTRAP, and the folder SECRETS has the passwords kafka_LOGIN and
# kafka_admin_client, which says how to log in as `admin`.
set -euo pipefail

kafka="${KAFKA_HOME:-/opt/kafka}"
bootstrap="${BOOTSTRAP:-kafka:9092}"
secrets="${SECRETS:-/run/secrets}"
topic="${TOPIC:-usage-events}"
group="${GROUP:-usageaudit}"
partitions="${PARTITIONS:-6}"
replicas="${REPLICAS:-1}"
retention_ms="${RETENTION_MS:-1209600000}" # 14 days: the longest stop of the consumer that loses nothing
in_sync="$((replicas > 1 ? replicas - 1 : 1))"

run() { # run TOOL ARGUMENT...
    "$kafka/bin/$1" --bootstrap-server "$bootstrap" --command-config "$secrets/kafka_admin_client" "${@:2}"
}

allow() { # allow LOGIN[,LOGIN] ARGUMENT...
    local principals=() login
    for login in ${1//,/ }; do
        principals+=(--allow-principal "User:$login")
    done
    run kafka-acls.sh --add "${principals[@]}" "${@:2}"
}

# The settings are those of `usageaudit topic create`. By LogAppendTime retention goes by when the broker got an event: by
# the publisher's time, what waited in a spool for longer than retention would be deleted at once.
run kafka-topics.sh --create --if-not-exists --topic "$topic" --partitions "$partitions" \
    --replication-factor "$replicas" --config "cleanup.policy=delete" --config "retention.ms=$retention_ms" \
    --config "retention.bytes=-1" --config "min.insync.replicas=$in_sync" \
    --config "unclean.leader.election.enable=false" --config "message.timestamp.type=LogAppendTime" \
    --config "max.message.bytes=1048588" --config "compression.type=lz4"

for login in publisher consumer operator; do
    run kafka-configs.sh --alter --entity-type users --entity-name "$login" \
        --add-config "SCRAM-SHA-512=[password=$(<"$secrets/kafka_$login")]"
done

# Publishers write to the topic and can't read it; the consumer reads it as a member of its group and can't write.
# Operators compare the record with the topic (`verify`, `doctor`) and publish refused records again (`rejects replay`);
# they look at the group, and can't move it. Who may read or write may describe, too.
allow publisher,operator --operation Write --topic "$topic"
allow consumer,operator --operation Read --operation DescribeConfigs --topic "$topic"
allow consumer --operation Read --group "$group"
allow operator --operation Describe --group "$group"
