"""The only writer and reader of run folders.

In: records, events, results, texts to keep. Out: the folder of DESIGN ("the pipeline is a folder") and the same things
read back. Must not import loadgen, target, report or anything above.
"""
