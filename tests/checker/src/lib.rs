//! The checker of the fault runs: reads what was recorded of many clients, of the log and of the archive, and says in words what must never be.
//!
//! It drives nothing, waits for nothing and shares no code with the product: its rules are written from the contract, and stand nowhere else.
//! Read [`Line`] first, which says what a recording is made of, then [`Kind`], which says what is looked for; [`check`] joins them.

mod agreement;
mod anomaly;
mod archive;
mod history;
mod lines;
mod messages;
mod receipts;
mod streams;
mod topics;

pub use anomaly::{Anomaly, Kind};
pub use history::{Answer, DeviceOf, History, Step};
pub use lines::{Frame, Line, Member, Record, Source, Stamp};

/// Everything in it that must never be, each thing once, by kind.
#[must_use]
pub fn check(history: &History) -> Vec<Anomaly> {
    let mut found = anomaly::Found::default();
    let topics = (!history.records.is_empty()).then(|| topics::Topics::of(history));
    let seen = streams::follow(history, topics.as_ref(), &mut found);
    messages::Messages::of(history, topics.as_ref(), &seen).check(&mut found);
    receipts::in_streams(history, &seen, &mut found);
    if let Some(topics) = &topics {
        archive::equals(history, topics, &mut found);
        receipts::in_the_archive(history, topics, &mut found);
    }
    let mut anomalies = found.take();
    anomalies.sort();
    anomalies.dedup();
    anomalies
}
