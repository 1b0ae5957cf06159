"""Facts and units: what every other room talks about.

In: nothing. Out: the types for quantities, requests, stages, records, events and results, and the errors that end a
run. Imports the standard library and numpy only; no room below it exists.
"""
