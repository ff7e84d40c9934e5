"""What a broker says, asked in Kafka's own protocol by hand: which it is, who works on which partition, where partitions end; and a record given to it."""

import socket
import struct

PRODUCE, LIST_OFFSETS, DESCRIBE_GROUPS, API_VERSIONS = (0, 3), (2, 1), (15, 0), (18, 3)
LATEST = -1
# The tag, in an answer about versions, of what all brokers agreed on.
FINALIZED = 2


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

    def varint(self):
        """Without a sign, seven bits a byte."""
        value = shift = 0
        while (byte := self.number("B")) > 0x7F:
            value, shift = value | (byte & 0x7F) << shift, shift + 7
        return value | byte << shift

    def few(self, one):
        """An array of the compact kind."""
        return [one() for _ in range(self.varint() - 1)]

    def tags(self):
        """Bytes by the number of their tag."""
        return {self.varint(): self.taken(self.varint()) for _ in range(self.varint())}


class Broker:
    """A connection to the one broker, for questions about itself, and about the topics and the group of that prefix."""

    def __init__(self, kafka, prefix=None, timeout_s=10):
        self.prefix = prefix
        self.link = socket.create_connection((kafka.host, kafka.port), timeout=timeout_s)
        self.stream = self.link.makefile("rb")

    def close(self):
        """It asks no more."""
        self.stream.close()
        self.link.close()

    def level(self, feature="metadata.version"):
        """Of that feature, as all brokers of the cluster agreed on it."""
        # A head of the newer kind ends with tags: none.
        answer = self._ask(API_VERSIONS, b"\0" + _compact("heddle-tests") + _compact("1") + b"\0")
        error, _, _ = answer.number("h"), answer.few(lambda: (answer.taken(6), answer.tags())), answer.number("i")
        assert not error, f"versions: error {error}"
        agreed = Reader(answer.tags()[FINALIZED])

        def one():
            name, highest, _, _ = agreed.taken(agreed.varint() - 1).decode(), agreed.number("h"), agreed.number("h"), agreed.tags()
            return name, highest

        return dict(agreed.few(one))[feature]

    def shares(self):
        """(topic, partition) to the node that works on it; of a group that is about to share out anew: None."""
        answer = self._ask(DESCRIBE_GROUPS, struct.pack(">i", 1) + _text(f"{self.prefix}.workers"))
        assert answer.number("i") == 1, "one group"
        error, _, state = answer.number("h"), answer.text(), answer.text()
        if error or state != "Stable":
            return None
        answer.text(), answer.text()
        return {place: node for node, places in answer.several(lambda: _member(answer)) for place in places}

    def ends(self, topic, partitions):
        """Where each partition of the topic ends."""
        places = b"".join(struct.pack(">iq", partition, LATEST) for partition in range(partitions))
        body = struct.pack(">ii", -1, 1) + _text(f"{self.prefix}.{topic}") + struct.pack(">i", partitions) + places
        answer = self._ask(LIST_OFFSETS, body)
        assert answer.number("i") == 1 and answer.text().endswith(topic), "one topic"

        def one():
            partition, error, _, end = answer.number("i"), answer.number("h"), answer.number("q"), answer.number("q")
            assert not error, f"{topic}/{partition}: error {error}"
            return partition, end

        return dict(answer.several(one))

    def write(self, topic, value):
        """Appends a record that no node wrote to partition 0 of the topic."""
        batch = _batch(value)
        body = struct.pack(">hhii", -1, -1, 10_000, 1) + _text(f"{self.prefix}.{topic}")
        answer = self._ask(PRODUCE, body + struct.pack(">iii", 1, 0, len(batch)) + batch)
        assert answer.number("i") == 1 and answer.text().endswith(topic) and answer.number("i") == 1, "one partition"
        partition, error = answer.number("i"), answer.number("h")
        assert not error, f"{topic}/{partition}: error {error}"

    def _ask(self, question, body):
        head = struct.pack(">hhih", *question, 1, -1)
        self.link.sendall(struct.pack(">i", len(head + body)) + head + body)
        (size,) = struct.unpack(">i", self.stream.read(4))
        answer = Reader(self.stream.read(size))
        answer.number("i")
        return answer


def _text(text):
    return struct.pack(">h", len(text)) + text.encode()


def _compact(text):
    return bytes([len(text) + 1]) + text.encode()


def _batch(value):
    """One record without a key, as brokers keep it: the batch of version 2."""
    # Attributes, differences of time and offset, no key, the value, no headers.
    record = b"".join([b"\0", _varint(0), _varint(0), _varint(-1), _varint(len(value)), value, _varint(0)])
    last, first_at, last_at, producer, epoch, sequence, records = 0, 0, 0, -1, -1, -1, 1
    tail = struct.pack(">hiqqqhii", 0, last, first_at, last_at, producer, epoch, sequence, records) + _varint(len(record)) + record
    head = struct.pack(">ibI", -1, 2, _crc32c(tail))
    return struct.pack(">qi", 0, len(head + tail)) + head + tail


def _crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _varint(number):
    """Its sign last, seven bits a byte."""
    rest, coded = number << 1 ^ number >> 31, b""
    while rest > 0x7F:
        coded, rest = coded + bytes([rest & 0x7F | 0x80]), rest >> 7
    return coded + bytes([rest])


def _member(answer):
    _, node, _ = answer.text(), answer.text(), answer.text()
    answer.taken(answer.number("i"))
    assignment = Reader(answer.taken(answer.number("i")))
    if not assignment.data:
        return node, []
    assignment.number("h")
    topics = assignment.several(lambda: (assignment.text(), assignment.several(lambda: assignment.number("i"))))
    return node, [(topic.split(".", 1)[1], partition) for topic, partitions in topics for partition in partitions]
