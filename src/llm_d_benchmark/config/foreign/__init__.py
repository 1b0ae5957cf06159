"""Configuration files of other load generators, in their own keys, as ours.

In: a file's tree of values that know their lines, and how the tool's files are read (``OwnFile``), which its load
generator states. Out: common load keys, the server's address, and what only the tool knows, under ``native``. Of a tool
that states none, unknown keys are passed on as they are. Imports config modules and the domain only.
"""
