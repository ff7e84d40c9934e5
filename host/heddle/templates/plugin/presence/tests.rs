    fn observe(event: Event, connections: u32, idle: u64, declared: Option<Status>) -> Status {
        let (user, previous) = ("alice".to_owned(), Status::Online);
        let seen = Observation { user, event, connections, idle, declared, previous };
        plugin().observe(AT, &seen).status
    }

    #[test]
    fn whoever_does_nothing_is_away_and_whoever_left_is_offline() {
        assert_eq!(observe(Event::Active, 1, 0, None), Status::Online);
        assert_eq!(observe(Event::Idle, 1, 300_000, None), Status::Away);
        assert_eq!(observe(Event::Disconnected, 0, 0, None), Status::Offline);
        assert_eq!(observe(Event::Declared, 1, 0, Some(Status::Away)), Status::Away);
    }

    #[test]
    fn the_blocked_see_nothing() {
        let blocked = Relation::CONTACT | Relation::BLOCKED;
        assert_eq!(plugin().viewer(AT, "alice", blocked), Visibility::Nothing);
        assert_eq!(plugin().viewer(AT, "alice", Relation::SHARES_A_GROUP), Visibility::StatusOnly);
    }

