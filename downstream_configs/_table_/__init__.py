"""The one table of detection and segmentation configs, and how `make configs` writes them from it.

`backbones`, `recipes` and `scores` hold the rows; `maps` asks timm's models; `leaves` and `pages` write. A config is a
recipe with a backbone that the recipe is meant for. So another backbone is a row of `backbones`, another recipe a row
of `recipes`, and a score that somebody publishes a row of `scores`. Which config's student learns from which config's
teacher is a row of `distilled`.
"""
