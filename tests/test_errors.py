import pytest

from siamtrack import errors


def test_tree_in_the_docstring_is_complete():
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.SiamTrackError):
            assert error.__name__ in errors.__doc__


def test_old_name_of_not_initialized_error_warns():
    with pytest.warns(FutureWarning, match="is now NotInitializedError"):
        old = errors.NotInitialisedError
    assert old is errors.NotInitializedError


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = errors.Nothing
