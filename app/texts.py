"""Words and numbers as a page writes them: words come from files and people, so they are never markup."""

import re

from glied.terminal import show

SIGNS = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&=^@/])")


def plain(text: str) -> str:
    """The text, with all escaped that no page can show or that Markdown, its directives or its formulas would read."""
    return SIGNS.sub(r"\\\1", show(" ".join(text.split())))


def head_name(head: int) -> str:
    """What a head is called where it is chosen, 0 for the mean, as in app/components/photo.js."""
    return f"Head {head}" if head else "Mean of heads"


def marked(text: str) -> str:
    """The text on a coloured ground and in bold, so that colour is not all."""
    return f"**:orange-background[{plain(text)}]**"
