"""What a sentence for users states, whatever its words: tests go by this (tests/test_messages.py has the sentences)."""

import re

FACT = re.compile(
    r"'[^']*'|\b(?:https?|s3|gs|az)://[^\s,;)]*|(?<!\w)--?[a-z][a-z-]*|(?<!\w)/[^\s,;:)]+|"
    r"\b[A-Za-z_][\w-]*(?:[./][A-Za-z_0-9*]+)+|(?<![\w.])\d[\d,]*(?:\.\d+)*%?"
)


def facts(sentence: object) -> list[str]:
    """The fields, options, paths, quoted values and numbers in a sentence, in their order."""
    return [found.rstrip(",.") for found in FACT.findall(str(sentence))]
