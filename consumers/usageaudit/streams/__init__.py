"""Reading side of the stream: the port, and its Kafka and embedded adapters.

`opening.open_stream(url)` gives either one as the port's `Stream`. `kafka` decides what is delivered and when, from
`buffers`; `kafka_client` is kafka-python with types, `fetching` its fast reading, `client_repairs` what has to be made
good in it. `kafka_topics` creates a topic and reads its settings, `topic_checks` says what they mean. `embedded` reads
the file of `usageaudit.embedded_log`.
"""
