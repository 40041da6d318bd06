"""Data sets: captions, boxes, phrases, the cache of regions."""
