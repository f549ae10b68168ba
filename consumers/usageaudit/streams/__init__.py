"""Reading side of the stream: the port, and its Kafka and embedded adapters."""
