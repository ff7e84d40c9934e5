impl RateLimit for Plugin {
    /// The state is the minute (8 bytes) and how many messages it has seen (4 bytes).
    fn decide(&self, at: Moment, request: &Request, state: &[u8]) -> Outcome {
        let minute = at.now / MINUTE_MS;
        let sent = match state.split_first_chunk::<8>() {
            Some((of, count)) if u64::from_le_bytes(*of) == minute => {
                u32::from_le_bytes(count.try_into().unwrap_or_default())
            }
            _ => 0,
        };
        let rest_ms = MINUTE_MS - at.now % MINUTE_MS;
        if request.command != Command::ChatMessage {
            return Outcome { verdict: Verdict::Allow, state: state.to_vec(), keep: rest_ms };
        }
        if sent >= self.per_minute {
            let reason = format!("at most {} messages a minute", self.per_minute);
            let verdict = Verdict::deny(reason, rest_ms);
            return Outcome { verdict, state: state.to_vec(), keep: rest_ms };
        }
        let state = [&minute.to_le_bytes()[..], &(sent + 1).to_le_bytes()[..]].concat();
        Outcome { verdict: Verdict::Allow, state, keep: rest_ms }
    }
}
