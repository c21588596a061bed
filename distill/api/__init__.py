"""The calls that notebooks, scripts and the commands make: one file a call, see `docs/python.md`.

`distill` has them as attributes: ``distill.train(…)``.
"""
