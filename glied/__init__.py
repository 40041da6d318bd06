"""GLIED Studio's core: photographs in, captions and traces out. No user interface, no plots."""
