"""The one table of distillation configs, and how `make configs` writes them from it.

`models` has the classifiers that teach and learn, `runs` who learns from whom, by which recipe, on which data; `leaves`
writes. `text` is how any config is written, those for detection and segmentation too.
"""
