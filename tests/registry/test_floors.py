import pytest

from registry.floors import covers, demands, read_floor, stored, written


@pytest.mark.parametrize(
    ("floor", "tool", "destructive", "demanded"),
    [
        (None, "s__a", True, False),
        ("always", "s__a", False, True),
        ("destructive", "s__a", False, False),
        ("destructive", "s__a", True, True),
        (("s__delete_*",), "s__delete_all", False, True),
        (("s__delete_*",), "s__list", True, False),
        ((), "s__a", True, False),
    ],
)
def test_a_floor_demands_what_it_says(floor: object, tool: str, destructive: bool, demanded: bool) -> None:
    read = None if floor is None else read_floor(floor)
    assert demands(read, tool, destructive=destructive) is demanded
    assert stored(written(read)) == read


@pytest.mark.parametrize("value", ["never", "", 1, {"always": []}, [1], [""], ["a"] * 1001])
def test_what_is_no_floor_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"must be always|more than"):
        read_floor(value)


def test_a_floor_is_covered_by_what_demands_at_least_as_much() -> None:
    floors = [None, (), ("a*",), ("a*", "b"), "destructive", "always"]
    covered = {(one, other) for one in floors for other in floors if covers(one, other)}
    assert all((None, other) in covered for other in floors)
    assert all((one, "always") in covered for one in floors)
    assert (("a*",), ("a*", "b")) in covered
    for one, other in [(("a*", "b"), ("a*",)), ("destructive", None), ("always", "destructive"), (("a*",), None)]:
        assert (one, other) not in covered
    assert (("a*",), "destructive") not in covered
