"""Three ways from a Kafka topic into ClickHouse, measured side by side; what they share and what they cost.

events.py        the usage events that are published, made from tables and a seed
terms.py         what policies are made of, in CEL, Python and SQL side by side
policies.py      fifty policies, and the bundle, functions and SQL made of them
ours.py          `usageaudit consume` as it is shipped
idiomatic.py     a consumer as a team writes one with confluent-kafka, orjson and clickhouse-connect
kafka_engine.py  ClickHouse's own Kafka engine and a materialized view
paths.py         how each of the three is started, and when it is done
peers.py         what the two peers share: their table, and which columns they fill
meter.py         processor time, memory and wall time of processes
compare.py       whether the three ledgers hold the same
stages.py        where our time goes, by stage and by number of policies
publisher.py     what the publisher costs its host: import and emit
report.py        medians, ratios and tables
"""
