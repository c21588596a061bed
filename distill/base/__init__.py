"""The ground floor, without mmengine: files, images, records, random numbers, processes."""
