    fn say(now: u64, command: Command, state: &[u8]) -> Outcome {
        let (scope, key) = (Scope::User, "alice".to_owned());
        let request = Request { scope, key, command, size: 10, connections: 1, recipients: 1 };
        RateLimit::decide(&plugin(), Moment { now, seed: 0 }, &request, state)
    }

    #[test]
    fn the_third_message_of_a_minute_waits_for_the_next() {
        let first = say(0, Command::ChatMessage, &[]);
        let second = say(1_000, Command::ChatMessage, &first.state);
        assert_eq!(second.verdict, Verdict::Allow);
        let third = say(2_000, Command::ChatMessage, &second.state);
        assert_eq!(third.verdict, Verdict::deny("at most 2 messages a minute", 58_000));
        assert_eq!(say(60_000, Command::ChatMessage, &second.state).verdict, Verdict::Allow);
    }

    #[test]
    fn only_messages_count() {
        let after = say(0, Command::Typing, &[7; 12]);
        assert_eq!((after.verdict, after.state), (Verdict::Allow, vec![7; 12]));
    }

