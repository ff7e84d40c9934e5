    fn route(hour: u64, to: Conversation, kind: &str) -> Decision {
        let envelope = Envelope { sender: "alice".into(), to, size: 10, members: 3 };
        let message = FakeMessage { kind: kind.into(), ..FakeMessage::default() };
        let at = Moment { now: hour * 3_600_000, seed: 0 };
        Routing::decide(&plugin(), at, &envelope, &message)
    }

    #[test]
    fn at_night_a_group_is_told_to_wait_for_the_morning() {
        let group = || Conversation::Group("g".into());
        for (hour, hours) in [(22, 9), (23, 8), (0, 7), (6, 1)] {
            let answer = route(hour, group(), "message");
            let wait = Some(hours * 3_600_000);
            assert!(matches!(answer, Decision::Reject(it) if it.retry_after == wait), "{hour}");
        }
        for hour in [7, 12, 21] {
            assert_eq!(route(hour, group(), "message"), Decision::Accept, "{hour}");
        }
    }

    #[test]
    fn at_night_friends_and_deletions_pass() {
        assert_eq!(route(23, Conversation::Direct("bob".into()), "message"), Decision::Accept);
        assert_eq!(route(23, Conversation::Group("g".into()), "delete"), Decision::Accept);
    }

