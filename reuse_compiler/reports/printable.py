"""Text that comes from files, as it may be shown on a terminal."""


def printable(text: str) -> str:
    """Returns the text with all that a terminal would obey, or cannot show, escaped as in Python's strings.

    Names of layers and tensors may hold any character, escape sequences and line ends included.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
