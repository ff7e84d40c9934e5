//! Routing: numbers messages in a global, which no policy may: another instance numbers them otherwise.

use std::sync::atomic::{AtomicU32, Ordering};

use heddle_sdk::{Changes, Config, Decision, Envelope, Message, Moment, Policy, Routing};

static SEEN: AtomicU32 = AtomicU32::new(0);

struct Counter;

impl Policy for Counter {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Routing for Counter {
    fn decide(&self, _at: Moment, _envelope: &Envelope, _message: &dyn Message) -> Decision {
        let number = SEEN.fetch_add(1, Ordering::Relaxed);
        Decision::AcceptWith(Changes { tags: vec![("number".to_owned(), number.to_string())], ..Changes::none() })
    }
}

heddle_sdk::export!(Counter: routing);
