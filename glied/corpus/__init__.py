"""Captions of any number of photographs, as Parquet."""
