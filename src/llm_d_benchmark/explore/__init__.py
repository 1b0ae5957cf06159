"""Searching configurations: which to measure, what they show, what to set."""
