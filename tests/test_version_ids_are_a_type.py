"""`VersionId`: "name@version" taken apart and put together in one place."""

import pytest

from workers.values.version_id import VersionId


@pytest.mark.parametrize(
    ("label", "model", "version"),
    [
        ("sentiment@2", "sentiment", "2"),
        ("модель@1.0.0", "модель", "1.0.0"),
        ("a@folder@f00d", "a@folder", "f00d"),  # VELO_MODEL_PATH may lead to such a folder
    ],
)
def test_a_label_is_taken_apart_and_put_together(label: str, model: str, version: str) -> None:
    found = VersionId.parse(label)
    assert (found.model, found.version) == (model, version)
    assert found.label == str(found) == f"{found}" == label


@pytest.mark.parametrize("label", ["", "default", "@", "@2", "sentiment@"])
def test_what_is_not_name_at_version_is_an_error(label: str) -> None:
    with pytest.raises(ValueError, match="isn't NAME@VERSION"):
        VersionId.parse(label)


def test_equal_ids_are_one_key_and_ids_have_an_order() -> None:
    assert {VersionId("m", "1"): "a"}[VersionId.parse("m@1")] == "a"
    assert VersionId("m", "1") != VersionId("m", "2")
    unsorted = [VersionId("n", "1"), VersionId("m", "2"), VersionId("m", "1")]
    assert [str(one) for one in sorted(unsorted)] == ["m@1", "m@2", "n@1"]
