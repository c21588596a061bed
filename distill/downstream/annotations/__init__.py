"""COCO annotation files as people really write them: mended where that is harmless, refused in one line otherwise.

mmdet and pycocotools expect more of a file than COCO's format says: a class's label is its place in the file, an
annotation's id is not 0, every object has an area. A file that breaks such a rule gives wrong scores or a traceback.

`reading` reads a file as a whole, `ids` numbers what it holds, `objects` and `masks` look at the objects one by one,
and `mending` does all of it. `register` has mmdet read files so; it is what configs name in ``custom_imports``.
"""
