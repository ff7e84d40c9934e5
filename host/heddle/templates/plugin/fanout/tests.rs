    fn group(members: u32) -> Audience {
        Audience { group: "g".into(), sender: "alice".into(), members, online: 0 }
    }

    #[test]
    fn large_groups_are_read_and_small_ones_pushed() {
        let plan = |members| plugin().plan(AT, &group(members), &FakeMessage::default());
        assert_eq!((plan(1_000), plan(1_001)), (Mode::Push, Mode::Pull));
    }

    #[test]
    fn the_muted_and_larger_groups_are_served_quietly_unless_mentioned() {
        let member = |members, fact| plugin().member(AT, &group(members), fact);
        assert_eq!(member(50, Fact::ONLINE), Delivery::Push);
        assert_eq!(member(50, Fact::MUTED), Delivery::Quiet);
        assert_eq!(member(51, Fact::ONLINE), Delivery::Quiet);
        assert_eq!(member(51, Fact::MUTED | Fact::MENTIONED), Delivery::Push);
    }

