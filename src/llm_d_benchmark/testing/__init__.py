"""Conformance suites for authors of load generators, targets and workloads: subclass one and run pytest."""
