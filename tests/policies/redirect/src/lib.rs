//! Routing: sends a direct message to the group that its tag `redirect` names.

use heddle_sdk::{Changes, Config, Conversation, Decision, Envelope, Message, Moment, Policy, Routing};

struct Redirect;

impl Policy for Redirect {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Routing for Redirect {
    fn decide(&self, _at: Moment, envelope: &Envelope, message: &dyn Message) -> Decision {
        match (&envelope.to, message.tag("redirect")) {
            (Conversation::Direct(_), Some(group)) => {
                Decision::AcceptWith(Changes { to: Some(Conversation::Group(group)), ..Changes::none() })
            }
            _ => Decision::Accept,
        }
    }
}

heddle_sdk::export!(Redirect: routing);
