"""The model behind the pages: one worker, its catalogue, the shipped reports."""
