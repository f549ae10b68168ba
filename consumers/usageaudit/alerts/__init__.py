"""Alerts: what violations and findings people are told of, how, and what became of it.

`model` says what an alert is, `config` reads who is told of what, `dispatcher` decides and keeps the record of it in
the store, `targets` knows the forms of those who are told, `web` the way there, and `acknowledging` takes answers.
"""
