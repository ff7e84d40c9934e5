"""What many clients sent and got, and what must hold of it: the checker of the fault runs."""

from collections import defaultdict


class Anomaly(AssertionError):
    """Something that must never be, with the message that shows it."""


class Books:
    """Accepted sends and received events of all users. Texts are `sender|conversation|number`, numbers from 0 without a hole."""

    def __init__(self, groups):
        # Members by group.
        self.groups = groups
        self.accepted = {}
        # Sent more than once: the first may have landed after all, and then the stream is right about the order. (DELIVERY 7)
        self.resent = set()
        self.received = defaultdict(list)
        # What `behind` knows: texts by user, how many events and sends it has looked at, and what had not come then.
        self._got, self._looked, self._sends, self._behind = defaultdict(set), defaultdict(int), 0, []

    def audience(self, text):
        """Who must get it: the recipients, and the sender its own copy."""
        sender, conversation, _ = text.split("|")
        kind, name = conversation.split(":", 1)
        return {sender, name} if kind == "user" else set(self.groups[name])

    def missing(self):
        """(user, text) of what was accepted and has not come."""
        got = {user: {event["text"] for event in events} for user, events in self.received.items()}
        return [(user, text) for text in self.accepted for user in self.audience(text) if text not in got.get(user, ())]

    def behind(self):
        """The same while the run goes on, for the price of what is new since it was asked last."""
        for user, events in self.received.items():
            self._got[user].update(event["text"] for event in events[self._looked[user]:])
            self._looked[user] = len(events)
        new = list(self.accepted)[self._sends:]
        self._sends += len(new)
        wanted = self._behind + [(user, text) for text in new for user in self.audience(text)]
        self._behind = [(user, text) for user, text in wanted if text not in self._got[user]]
        return self._behind

    def check(self):
        """Raises for the first anomaly."""
        if missing := self.missing():
            raise Anomaly(f"lost: {len(missing)}, the first {missing[0]}")
        for user, events in self.received.items():
            self._of_one(user, events)
        self._groups_agree()

    def _of_one(self, user, events):
        offsets = [event["offset"] for event in events]
        if offsets != sorted(set(offsets)):
            raise Anomaly(f"{user}: offsets do not grow")
        seen, last = set(), {}
        for event in events:
            text = event["text"]
            if text in seen:
                raise Anomaly(f"doubled: {user} got {text} twice")
            seen.add(text)
            if user not in self.audience(text):
                raise Anomaly(f"leaked: {user} got {text}")
            sender, conversation, number = text.split("|")
            if int(number) != last.get((sender, conversation), -1) + 1:
                raise Anomaly(f"reordered: {user} got {text} after number {last.get((sender, conversation))}")
            last[sender, conversation] = int(number)
            if text in self.accepted and text not in self.resent and self.accepted[text]["order"] != event["order"]:
                raise Anomaly(f"renumbered: {user} got {text} with order {event['order']}, accepted with {self.accepted[text]['order']}")

    def _groups_agree(self):
        for group, members in self.groups.items():
            orders = []
            for user in sorted(members):
                texts = [event["text"] for event in self.received[user] if event["text"].split("|")[1] == f"group:{group}"]
                orders.append((user, texts))
            (first, wanted), *others = orders
            for user, texts in others:
                if texts != wanted:
                    raise Anomaly(f"group {group}: {first} and {user} saw another order")
