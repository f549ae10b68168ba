"""Reading side of the stream: the port, and its Kafka and embedded adapters.

`opening.open_stream(url)` gives either one as the port's `Stream`. `kafka` decides what is delivered and when, from
`buffers`; `kafka_client` is kafka-python with types, `fetching` its fast reading, `client_repairs` what has to be made
good in it. `embedded` reads the file of `usageaudit.embedded_log`.
"""
