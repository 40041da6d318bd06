"""Words and numbers as a page writes them: words come from files and people, so they are never markup."""

import re

from glied.terminal import show

SIGNS = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&=^@/])")


def plain(text: str) -> str:
    """The text with every character escaped that a page cannot show or that Markdown would interpret."""
    return SIGNS.sub(r"\\\1", show(" ".join(text.split())))


def head_name(head: int) -> str:
    """The name of a head in a list of heads, 0 for the mean; as in app/components/photo.js."""
    return f"Head {head}" if head else "Mean of heads"


def marked(text: str) -> str:
    """The text on a coloured ground, and in bold for those who do not see the colour."""
    return f"**:orange-background[{plain(text)}]**"
