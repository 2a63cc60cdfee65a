import pickle

from pfit_ray.errors import RowError, UserError


def test_a_row_error_has_a_reason_and_a_sentence() -> None:
    error = RowError("missing", "a.jpg does not exist")
    assert (error.reason, error.message, str(error)) == ("missing", "a.jpg does not exist", "a.jpg does not exist")


def test_a_row_error_is_no_mistake_of_the_user() -> None:
    assert not issubclass(RowError, UserError)
    assert not issubclass(UserError, RowError)


def test_errors_survive_the_way_from_a_worker() -> None:
    error = RowError("missing", "gone")
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), found.reason, found.message) == (RowError, "missing", "gone")
