"""The publisher's spool: events that wait on a local disk for the broker, one SQLite file a process.

`file` is such a file and `owner` the lock that says whose it is; `folder` finds the files of processes that ended.
`source` stands between the two threads of a publisher: the one that writes the spool and the one that ships from it.
"""
