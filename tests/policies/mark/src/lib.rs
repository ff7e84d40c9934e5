//! Routing: sets the tag `mark` to what the configuration says, so that a message tells which version decided.

use heddle_sdk::{Changes, Config, Decision, Envelope, Message, Moment, Policy, Routing};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    mark: String,
}

impl Policy for Mark {
    fn configure(config: &Config) -> Result<Self, String> {
        config.parse()
    }
}

impl Routing for Mark {
    fn decide(&self, _at: Moment, _envelope: &Envelope, _message: &dyn Message) -> Decision {
        let tags = vec![("mark".to_owned(), self.mark.clone())];
        Decision::AcceptWith(Changes { tags, ..Changes::none() })
    }
}

heddle_sdk::export!(Mark: routing);
