"""Hooks of mmengine's training loop, one a file.

A hook's ``priority`` decides who comes first at the same point of the loop. The comment beside it says why.
"""
