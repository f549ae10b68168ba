"""Targets: those who are told of alerts, each in its own form."""
