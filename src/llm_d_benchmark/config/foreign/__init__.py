"""Configuration files of other load generators, in their own keys, as ours.

In: a file's tree of values that know their lines, and the tool's name. Out: common load keys, the server's address, and
what only the tool knows, under ``native``. A tool that is not here has all its unknown keys passed on as they are.
Imports config modules and the domain only.
"""
