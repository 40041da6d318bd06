"""The one error that reaches a person as a message."""


class GliedError(Exception):
    """Says in one sentence what was expected, what came instead, and what to do."""
