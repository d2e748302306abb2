import drift


def test_every_public_name_is_there_and_documented():
    assert len(drift.__all__) <= 12
    for name in drift.__all__:
        assert getattr(drift, name) is not None
    assert all(getattr(drift, name).__doc__ for name in drift.__all__ if name != "__version__")
