//! Fan-out: pulls, however small the group.

use heddle_sdk::{Audience, Config, Fanout, Message, Mode, Moment, Policy};

struct PullAll;

impl Policy for PullAll {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Fanout for PullAll {
    fn plan(&self, _at: Moment, _audience: &Audience, _message: &dyn Message) -> Mode {
        Mode::Pull
    }
}

heddle_sdk::export!(PullAll: fanout);
