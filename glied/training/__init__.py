"""Every training, and the loop that captioners share."""
