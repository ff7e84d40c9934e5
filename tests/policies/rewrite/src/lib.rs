//! Routing: writes every text in capitals, and says so in the tag `rewritten`.

use heddle_sdk::{Changes, Config, Decision, Envelope, Message, Moment, Policy, Routing};

struct Rewrite;

impl Policy for Rewrite {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Routing for Rewrite {
    fn decide(&self, _at: Moment, _envelope: &Envelope, message: &dyn Message) -> Decision {
        let Some(text) = message.text() else { return Decision::Accept };
        let tags = vec![("rewritten".to_owned(), "capitals".to_owned())];
        Decision::AcceptWith(Changes { text: Some(text.to_uppercase()), tags, ..Changes::none() })
    }
}

heddle_sdk::export!(Rewrite: routing);
