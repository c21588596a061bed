"""Wrong data is an error that names the file: before a detector or segmenter trains, where that can be known then.

`hook` runs the checks; `model` compares a data set with the model, `files` looks for what a data set names, `suffixes`
for what it leaves out, and `sample` looks into each sample as it is read, with `labels` for its label map. `norm`
watches the first step for a batch norm over one value. Decoding all label maps of ADE20K in advance would take minutes,
so before training only as many samples are read as some seconds allow, which are all of a small set.
"""
