"""Launchers of the real servers that tests and benchmarks talk to, from packages and without containers.

packages.py         what a server is made of: downloaded once, pinned, into a cache outside the repository
process.py          one server process: started, awaited, paused, killed, started again on the same data and ports
child.py            runs in that process first: ties its life to ours
kafka.py            a broker that is its own controller
clickhouse.py       a ClickHouse of the long-term support release, or of the newest one
clickhouse_main.py  runs in the process of a ClickHouse: loads the library and enters its main function
"""
