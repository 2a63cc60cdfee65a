from pfit_ray.data.sources.spill import SeenTexts, TextMap


def test_seen_texts() -> None:
    seen = SeenTexts()
    assert [seen.add(text) for text in ("a", "b", "a", "", "é", "\udcff", "\udcff", "")] == [
        *(True, True, False),
        *(True, True, True),
        *(False, False),
    ]


def test_text_map() -> None:
    pairs = TextMap([("b", "2"), ("a", "1"), ("b", None), ("\udcff", "\udcfe"), ("b", "2")])
    assert pairs.get("a") == ["1"]
    assert pairs.get("b") == ["2", None, "2"]
    assert pairs.get("\udcff") == ["\udcfe"]
    assert pairs.get("c") == []


def test_claims() -> None:
    pairs = TextMap([(key, "x") for key in "cabdd"])
    assert pairs.unclaimed() == (4, "a")
    assert pairs.claim("a") is None
    assert pairs.claim("a", "first") == "first"
    assert pairs.claim("a", "second") == "first"
    assert pairs.claim("a") == "first"
    assert pairs.unclaimed() == (3, "b")
    for key in "bcd":
        pairs.claim(key)
    assert pairs.unclaimed() == (0, "")


def test_a_table_larger_than_its_cache_spills() -> None:
    seen = SeenTexts()
    seen._database.execute("PRAGMA cache_size=-64")
    texts = [f"{number * 7919 % 5003:050d}" for number in range(5003)]
    assert all(seen.add(text) for text in texts)
    assert not any(seen.add(text) for text in texts)
