"""Own Components v2 elements: everything that follows the pointer stays in the browser."""
