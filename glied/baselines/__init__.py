"""Variants of Base and GLIED, and the captioners that the paper compares with."""
