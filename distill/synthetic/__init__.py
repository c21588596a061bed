"""Procedural data sets in the layouts of ImageNet, COCO and ADE20K."""
