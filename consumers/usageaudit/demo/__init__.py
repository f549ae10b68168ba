"""The demonstration: a simulated week of an organisation, published, judged, recorded and shown.

`services` says who uses which models for what, `traffic` how many tokens and when, `week` makes the events,
`mishaps` what goes wrong on the way, `running` runs it all, `alerting` tells a receiver of the gravest, and `showing`
prints what was found.
"""
