"""The one room that knows the others: setup -> benchmark -> analysis -> cleanup.

In: a loaded configuration and run options. Out: a run folder, its result and an exit code. Imports every room below;
nothing but the command line, the Python API and (later) the server imports it.
"""
