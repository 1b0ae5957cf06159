"""Comparing runs: effects and verdicts, how many runs it takes, stability, outliers, trends.

In: run-level values and ``domain.result`` types. Out: ``domain.comparison`` types. The unit is an independent run.
"""
