//! Routing: draws a lot from the moment's seed and from the order of a map, which is another in each process outside Heddle.

use std::collections::HashMap;

use heddle_sdk::{Changes, Config, Decision, Envelope, Message, Moment, Policy, Refusal, Routing};

struct Lots;

impl Policy for Lots {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Routing for Lots {
    fn decide(&self, at: Moment, envelope: &Envelope, _message: &dyn Message) -> Decision {
        let names: HashMap<u64, &str> = (0..16).zip(["ash", "birch", "cedar", "elm"].into_iter().cycle()).collect();
        let order: String = names.values().copied().collect::<Vec<_>>().join(" ");
        if (at.seed ^ u64::from(envelope.size)).is_multiple_of(10) {
            let reason = format!("lot {} of {order}", at.seed % 100);
            return Decision::Reject(Refusal { reason, retry_after: None });
        }
        let tags = vec![("lot".to_owned(), format!("{order} {} {}", at.seed, envelope.size))];
        Decision::AcceptWith(Changes { tags, ..Changes::none() })
    }
}

heddle_sdk::export!(Lots: routing);
