"""The ground floor, which needs no mmengine: files, images, records, random numbers, processes, a forward pass."""
