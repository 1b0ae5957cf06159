"""The version of the tool, as the manifest and every result state it."""

VERSION = "0.3.0"
