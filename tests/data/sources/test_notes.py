from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.notes import MOST_KINDS, Note, Notes


def test_kinds_are_counted_and_keep_their_first_example() -> None:
    notes = Notes()
    notes.add("files left out", "a.psd", "convert them")
    notes.add("rows of no image", "z.jpg", count=3)
    notes.add("files left out", "b.psd", "convert them")
    assert [str(note) for note in notes] == [
        "files left out: 2, such as 'a.psd'; convert them",
        "rows of no image: 3, such as 'z.jpg'",
    ]
    assert [Note(**note) for note in notes.document()] == list(notes)


def test_a_stream_of_images_and_notes() -> None:
    one, two, notes = Item("a", "a.jpg"), Item("b", "b.jpg"), Notes()
    assert list(notes.sift([one, Note("odd things", "x"), two, Note("odd things", "y")])) == [one, two]
    assert list(notes) == [Note("odd things", "x", count=2)]


def test_kinds_have_an_end() -> None:
    notes = Notes()
    for number in range(2 * MOST_KINDS):
        notes.add(f"files of kind {number}", "\udcff")
    assert len(list(notes)) == MOST_KINDS + 1
    assert list(notes)[-1].count == MOST_KINDS
    notes.document()
    "".join(map(str, notes)).encode()
