"""Who works on which partition, by the broker's own word: `DescribeGroups` of Kafka's protocol, version 0, by hand."""

import socket
import struct

DESCRIBE_GROUPS = 15


class Reader:
    """Takes what the protocol is made of off a buffer."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, code):
        """A big-endian number, by its letter in `struct`."""
        (value,) = struct.unpack_from(f">{code}", self.data, self.at)
        self.at += struct.calcsize(f">{code}")
        return value

    def taken(self, size):
        """So many bytes; none of a negative size."""
        size = max(0, size)
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self):
        """A string with its length in two bytes."""
        return self.taken(self.number("h")).decode()

    def several(self, one):
        """An array."""
        return [one() for _ in range(self.number("i"))]


def shares(kafka, prefix):
    """(topic, partition) to the node that works on it; of a group that is about to share out anew: None."""
    group = f"{prefix}.workers".encode()
    body = struct.pack(">ih", 1, len(group)) + group
    head = struct.pack(">hhih", DESCRIBE_GROUPS, 0, 1, -1)
    with socket.create_connection(("127.0.0.1", kafka.port), timeout=10) as link:
        link.sendall(struct.pack(">i", len(head + body)) + head + body)
        stream = link.makefile("rb")
        (size,) = struct.unpack(">i", stream.read(4))
        answer = Reader(stream.read(size))
    answer.number("i")
    assert answer.number("i") == 1, "one group"
    error, _, state = answer.number("h"), answer.text(), answer.text()
    if error or state != "Stable":
        return None
    answer.text(), answer.text()
    return {place: node for node, places in answer.several(lambda: _member(answer)) for place in places}


def _member(answer):
    _, node, _ = answer.text(), answer.text(), answer.text()
    answer.taken(answer.number("i"))
    assignment = Reader(answer.taken(answer.number("i")))
    if not assignment.data:
        return node, []
    assignment.number("h")
    topics = assignment.several(lambda: (assignment.text(), assignment.several(lambda: assignment.number("i"))))
    return node, [(topic.split(".", 1)[1], partition) for topic, partitions in topics for partition in partitions]
