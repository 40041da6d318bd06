"""Comparisons: the ablation, the paper's tables, speed."""
