"""The path of a batch: poll, decode, judge, record, acknowledge.

`service.run_consumer(config, store, policies, stop)` is the whole consumer, `service.stopping_on_signals` wires
SIGTERM, SIGINT and SIGHUP to it; `consume` tells its story, `judging` makes rows of records, `rows` builds one row,
`recovery` takes partitions over, `policies` holds the bundle in force.
"""
