"""The photographs to choose from, and their files."""
