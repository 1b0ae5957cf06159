"""A result as something to look at: console summary, report.html, Markdown, CSV, the llm-d Benchmark Report.

In: ``RunResult``, records and events of the same run, the resolved configuration. Out: text and files. Every number
shown comes from the result. Must not import loadgen, target, store or anything above.
"""
