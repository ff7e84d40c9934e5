//! Fan-out: leaves out every other member of a page, the second one first.

use heddle_sdk::{Audience, Config, Delivery, Fanout, Message, Moment, Policy};

struct LeaveOutOdd;

impl Policy for LeaveOutOdd {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Fanout for LeaveOutOdd {
    fn sort(&self, _at: Moment, _audience: &Audience, facts: &[u8], _message: &dyn Message) -> Vec<u8> {
        let code = |at: usize| if at % 2 == 1 { Delivery::LeaveOut } else { Delivery::Push };
        (0..facts.len()).map(|at| code(at) as u8).collect()
    }
}

heddle_sdk::export!(LeaveOutOdd: fanout);
