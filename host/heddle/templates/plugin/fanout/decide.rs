impl Fanout for Plugin {
    /// Into each member's stream; in large groups into the group's log only, and members read it there.
    fn plan(&self, _at: Moment, audience: &Audience, _message: &dyn Message) -> Mode {
        if audience.members <= self.push_up_to { Mode::Push } else { Mode::Pull }
    }

    /// In groups of some size only those who are mentioned are notified.
    fn member(&self, _at: Moment, audience: &Audience, fact: Fact) -> Delivery {
        let loud = audience.members <= self.loud_up_to && !fact.contains(Fact::MUTED);
        if loud || fact.contains(Fact::MENTIONED) { Delivery::Push } else { Delivery::Quiet }
    }
}
