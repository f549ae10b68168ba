"""Runs windowed policies over the ledger: what is new goes through their windows, and what they find is a finding.

rules      what a bundle's windowed policies come to: one rule for each revision
progress   how far each rule has read, kept in the store
reading    what is new in the ledger, and up to which time it is complete
stepping   one step of a rule: keep what counts, look at the windows that it falls into, record what they crossed
recording  crossings as findings, each once
cleaning   what no window needs any more is removed
lease      one scheduler at a time
service    one step of every rule
running    step after step, until it is told to stop
"""
