impl Routing for Plugin {
    fn decide(&self, at: Moment, envelope: &Envelope, message: &dyn Message) -> Decision {
        let hour = at.now / HOUR_MS % 24;
        let night = if self.quiet_from <= self.quiet_until {
            (self.quiet_from..self.quiet_until).contains(&hour)
        } else {
            hour >= self.quiet_from || hour < self.quiet_until
        };
        let to_a_group = matches!(envelope.to, Conversation::Group(_));
        // What was sent may be taken back at any hour.
        if !night || !to_a_group || message.kind() == "delete" {
            return Decision::Accept;
        }
        let hours = (self.quiet_until + 24 - hour) % 24;
        Decision::Reject(Refusal {
            reason: format!("groups are quiet until {}:00 UTC", self.quiet_until),
            retry_after: Some(hours * HOUR_MS - at.now % HOUR_MS),
        })
    }
}
