"""The only writer and reader of run folders.

In: records, events, results, texts to keep. Out: the folder of docs/run-folder.md and the same things read back. Must
not import loadgen, target, report or anything above.
"""
