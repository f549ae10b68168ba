"""Windowed policies: those whose condition holds for many events together.

`model` says what a window is, `reading` reads it from YAML, `matching` writes the SQL of the rows that count, and
`crossings` the SQL of the moments at which the condition comes true; live steps and back-tests run the same.
"""
