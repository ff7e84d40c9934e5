//! Appends of one id take turns, so that the second finds what became of the first.

use std::collections::HashMap;

use heddle_model::MessageId;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Appends under way that have an id.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    under_way: Mutex<HashMap<MessageId, watch::Receiver<()>>>,
}

/// The right to append under an id, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    id: MessageId,
    /// Those who wait see its end.
    _end: watch::Sender<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.under_way.lock().remove(&self.id);
    }
}

impl Turns {
    /// Waits for those before.
    pub(crate) async fn take(&self, id: MessageId) -> Turn<'_> {
        loop {
            let mut other = {
                let mut under_way = self.under_way.lock();
                match under_way.get(&id) {
                    Some(other) => other.clone(),
                    None => {
                        let (end, wait) = watch::channel(());
                        under_way.insert(id, wait);
                        return Turn { turns: self, id, _end: end };
                    }
                }
            };
            // An error is its end.
            while other.changed().await.is_ok() {}
        }
    }
}
