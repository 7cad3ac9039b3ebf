"""A list as it comes over the wire: cut into objects, or refused whole."""

import pytest

from aiops.backends.kubernetes.connection import Lost, _page


def test_a_page_gives_its_objects_one_by_one_with_version_and_next_token() -> None:
    page = _page(b'{"items":[{"a":1},{"a":[{"b":"]"}]}],"metadata":{"resourceVersion":"7","continue":"t"},"kind":"PodList"}')
    assert list(page.objects()) == [{"a": 1}, {"a": [{"b": "]"}]}] and (page.version, page.next) == ("7", "t")


def test_a_list_of_nothing_is_empty() -> None:
    assert not _page(b'{"items":null,"metadata":{"resourceVersion":"7"}}').rows  # a Go slice that was never made


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "nothing came"),
        (b"<html>", "a proxy answered"),
        (b'{"items":[{"a":1}', "cut off"),
        (b'{"items":[{"a":1}]}', "no version: a watch could not begin where the list ended"),
        (b'{"items":{"a":1},"metadata":{"resourceVersion":"7"}}', "items that are no list"),
        (b"[]", "no object"),
    ],
)
def test_what_is_not_a_whole_list_is_lost(data: bytes, why: str) -> None:
    with pytest.raises(Lost):
        _page(data)


def test_one_broken_object_spoils_the_page() -> None:
    with pytest.raises(Lost):
        list(_page(b'{"items":[{"a":1},"text"],"metadata":{"resourceVersion":"7"}}').objects())
