"""The command line, one thin file per command: parse, call the room that does it, print, exit."""
