"""What a run waits for: of each accepted message, that it came to those who should have it. What must be of it, `tests/checker` knows."""

from collections import defaultdict


class Books:
    """Accepted sends and received messages of all users. Texts are `sender|conversation|number`."""

    def __init__(self, groups):
        # Those who are members all the time, by group.
        self.groups = groups
        self.accepted = {}
        self.received = 0
        # Texts by user, how many sends were looked at, and what had not come then.
        self._got, self._looked, self._behind = defaultdict(set), 0, []

    def came(self, user, messages):
        """These came to that user."""
        self.received += len(messages)
        self._got[user].update(message["text"] for message in messages)

    def behind(self):
        """(user, text) of what was accepted and has not come, for the price of what is new since it was asked last."""
        new = list(self.accepted)[self._looked:]
        self._looked += len(new)
        wanted = self._behind + [(user, text) for text in new for user in self._audience(text)]
        self._behind = [(user, text) for user, text in wanted if text not in self._got[user]]
        return self._behind

    def _audience(self, text):
        sender, conversation, _ = text.split("|")
        kind, name = conversation.split(":", 1)
        return {sender, name} if kind == "user" else set(self.groups[name])
