"""The command classes: what `classifier.zero_shot` understands."""

from typing import Annotated

import typer

from pfit_ray.cli.shared import out
from pfit_ray.errors import UserError


def classes(
    word: Annotated[str, typer.Argument(metavar="WORD", help="A word, such as cat, or a WordNet id.")],
) -> None:
    """List the ImageNet classes whose name has a word, for classifier.zero_shot."""
    from pfit_ray.nets.imagenet import search_classes

    group, found = search_classes(word)
    if not group and not found:
        raise UserError(f"classes: no ImageNet class has the word {word!r}; try a more general or another word")
    if group:
        out.print(f"{word} stands for {len(group)} ImageNet class(es): {', '.join(map(str, group))}", soft_wrap=True)
    for one in found:
        out.print(f"{one}: {one.definition}", soft_wrap=True)
