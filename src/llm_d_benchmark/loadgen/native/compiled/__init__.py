"""The optional receiver in C: Linux, plain-text connections. Comes in: sockets; goes out: what connection.py gives too.

``receiver.c`` reads and takes times in a thread of its own, ``acks.c`` spares acknowledgements, ``decoder.c`` decodes
usual responses; ``hatch_build.py`` builds them into ``_receiver.so`` when the package is installed where there is a C
compiler. Everything works without.
"""
