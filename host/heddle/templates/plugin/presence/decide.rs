impl Presence for Plugin {
    fn observe(&self, _at: Moment, seen: &Observation) -> Sighting {
        let active = seen.idle < self.away_after_ms || seen.event == Event::Connected;
        let status = match seen.declared {
            _ if seen.connections == 0 => Status::Offline,
            Some(Status::Offline) => Status::Offline,
            Some(Status::Away) => Status::Away,
            _ if active => Status::Online,
            _ => Status::Away,
        };
        let idle = if seen.event == Event::Connected { 0 } else { seen.idle };
        let recheck = match status {
            Status::Online => self.away_after_ms.saturating_sub(idle).max(1_000),
            Status::Away | Status::Offline => 0,
        };
        Sighting { status, announce: status != seen.previous, recheck }
    }

    /// Contacts see everything, members of a common group whether somebody is there, others nothing.
    fn viewer(&self, _at: Moment, _subject: &str, relation: Relation) -> Visibility {
        if relation.contains(Relation::BLOCKED) {
            Visibility::Nothing
        } else if relation.contains(Relation::CONTACT) {
            Visibility::StatusAndLastSeen
        } else if relation.contains(Relation::SHARES_A_GROUP) {
            Visibility::StatusOnly
        } else {
            Visibility::Nothing
        }
    }
}
