"""The checker of the fault runs finds each kind of anomaly that is planted."""

import copy

import pytest

from harness.checker import Anomaly, Books


def good():
    """Two messages to a user and two to a group, as they should be."""
    books = Books({"g": ["a", "b", "c"]})
    texts = ["a|user:b|0", "a|user:b|1", "a|group:g|0", "b|group:g|0"]
    for order, text in enumerate(texts, 1):
        books.accepted[text] = {"order": order}
        for user in sorted(books.audience(text)):
            books.received[user].append({"text": text, "order": order, "offset": 10 * order})
    return books


def lose(books):
    books.received["b"].pop(0)


def double(books):
    books.received["c"].append({**books.received["c"][-1], "offset": 99})


def reorder(books):
    events = books.received["b"]
    events[0]["text"], events[1]["text"] = events[1]["text"], events[0]["text"]


def leak(books):
    books.received["c"].insert(0, {"text": "a|user:b|0", "order": 1, "offset": 1})


def renumber(books):
    books.received["b"][0]["order"] = 7


def disagree(books):
    events = books.received["c"]
    events[0]["text"], events[1]["text"] = events[1]["text"], events[0]["text"]
    events[0]["order"], events[1]["order"] = events[1]["order"], events[0]["order"]


def go_back(books):
    books.received["b"][1]["offset"] = 5


def test_nothing_is_found_where_nothing_is_wrong():
    good().check()


@pytest.mark.parametrize("plant, said", [
    (lose, "lost"), (double, "doubled"), (reorder, "reordered"), (leak, "leaked"), (renumber, "renumbered"),
    (disagree, "another order"), (go_back, "offsets do not grow"),
], ids=lambda it: it.__name__ if callable(it) else it.split()[0])
def test_what_is_planted_is_found(plant, said):
    books = copy.deepcopy(good())
    plant(books)
    with pytest.raises(Anomaly, match=said):
        books.check()
