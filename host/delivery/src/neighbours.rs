//! Carries what nodes tell each other of their connections between presence and the bus. (DELIVERY 21)

use std::sync::Arc;
use std::time::Duration;

use heddle_presence::Tidings;
use heddle_registry::BusError;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::NodeMessage;
use crate::delivery::Shared;

/// How often what happened is told: many changes go in one message, and nobody sees the wait.
const TELL: Duration = Duration::from_millis(200);
/// Tidings that wait to be taken in. What finds no room is asked for later.
pub(crate) const WAITING_MAX: usize = 1_024;

/// Until delivery stops: tells the others what happens here, and takes in what they tell.
pub(crate) async fn run(shared: Arc<Shared>, mut heard: mpsc::Receiver<Tidings>) {
    let mut state = shared.bus.state();
    let mut ticks = tokio::time::interval(TELL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // What is here already is taken in before anybody's lease ends.
            biased;
            () = shared.stop.cancelled() => break,
            tidings = heard.recv() => match tidings {
                Some(tidings) => shared.presence.hear(&tidings),
                None => break,
            },
            changed = state.changed() => {
                if changed.is_err() {
                    break;
                }
                if state.borrow_and_update().whole {
                    shared.presence.hail();
                }
            }
            _ = ticks.tick() => shared.tell_nodes().await,
        }
    }
    // The last connections closed a moment ago.
    shared.tell_nodes().await;
}

impl Shared {
    async fn tell_nodes(&self) {
        for (to, tidings) in self.presence.tell() {
            let message = Arc::new(NodeMessage::Tidings(tidings));
            match to {
                None => self.bus.broadcast(message).await,
                Some(node) => {
                    let sent: Result<(), BusError> = self.bus.send(&node, message).await;
                    if let Err(error) = sent {
                        tracing::debug!(%node, %error, "a node hears later who is here");
                    }
                }
            }
        }
        let figures = self.presence.figures();
        metrics::gauge!("heddle_presence_nodes").set(figures.nodes as f64);
        metrics::gauge!("heddle_presence_remote_connections").set(figures.remote as f64);
    }
}
