import pytest
from support.small_runs import command


@pytest.mark.parametrize(
    ("word", "lines"),
    [
        ("tabby", ["281 tabby, tabby cat (n02123045)"]),
        ("cat", ["cat stands for 5 ImageNet class(es): 281, 282, 283, 284, 285", "283 Persian cat (n02123394)"]),
        ("n02123045", ["281 tabby, tabby cat (n02123045)"]),
    ],
)
def test_classes_are_listed_by_word(word: str, lines: list[str]) -> None:
    done = command("classes", word)
    assert done.code == 0
    for line in lines:
        assert line in done.out


def test_a_word_that_no_class_has_is_a_mistake() -> None:
    done = command("classes", "flumph")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "'flumph'" in done.err
