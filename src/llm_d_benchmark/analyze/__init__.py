"""Pure functions from records, events and samples to metrics, validity, verdicts and findings.

In: ``domain.records.Records``, events, the analysis part of the configuration. Out: ``domain.result`` types. No files,
no network, no clock: the same input gives the same result. Imports ``config`` and ``domain`` only.
"""
