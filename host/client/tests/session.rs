//! The client's rules, against a server that the test plays itself.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use heddle_client::{Client, ClientConfig, ClientError, ClientHandle, Draft, Event};
use heddle_protocol::{ServerFrame, Target};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Nothing here takes that long.
const DEADLINE: Duration = Duration::from_secs(20);

/// The server's end of one connection.
struct Peer(WebSocketStream<TcpStream>);

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = timeout(DEADLINE, listener.accept()).await.expect("a connection in time").unwrap();
        #[allow(clippy::result_large_err, reason = "the callback's type is given")]
        let echo = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            let name = "sec-websocket-protocol";
            if let Some(protocol) = request.headers().get(name) {
                response.headers_mut().insert(name, protocol.clone());
            }
            Ok(response)
        };
        Self(accept_hdr_async(stream, echo).await.unwrap())
    }

    /// Accepts, and answers `hello` with that position; says what the client resumed from.
    async fn greet(listener: &TcpListener, offset: u64) -> (Self, Value) {
        let mut peer = Self::accept(listener).await;
        let hello = peer.hear("hello").await;
        let ok = json!({"type": "hello_ok", "session": "s", "user": "alice", "device": "d", "offset": offset,
            "heartbeat_ms": 30_000, "resumed": true});
        peer.say(&ok).await;
        (peer, hello["resume"].clone())
    }

    /// The next frame of that type.
    async fn hear(&mut self, ty: &str) -> Value {
        let next = async {
            loop {
                if let Message::Text(text) = self.0.next().await.expect("still connected").unwrap() {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if frame["type"] == ty {
                        return frame;
                    }
                }
            }
        };
        timeout(DEADLINE, next).await.unwrap_or_else(|_| panic!("no {ty} came"))
    }

    async fn say(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn message(&mut self, offset: u64) {
        self.say(&json!({"type": "new_message", "offset": offset, "message_id": format!("m{offset}"), "from": "bob",
            "to": "alice", "text": "hi", "sent_at": 1, "lamport": 1, "order": offset}))
            .await;
    }

    async fn accept_send(&mut self, client_id: &str) {
        self.say(&json!({"type": "accepted", "client_id": client_id, "message_id": "m", "sent_at": 1, "lamport": 1,
            "order": 1, "generation": 1}))
            .await;
    }
}

async fn start(resume: Option<u64>) -> (TcpListener, ClientHandle, mpsc::Receiver<Event>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = ClientConfig::new(listener.local_addr().unwrap().to_string(), "t", "d");
    config.resume = resume;
    let (handle, events) = Client::connect(config);
    (listener, handle, events)
}

/// The offset of the next message.
async fn next_message(events: &mut mpsc::Receiver<Event>) -> u64 {
    let next = async {
        loop {
            if let Event::Frame(ServerFrame::NewMessage(message)) = events.recv().await.expect("still running") {
                return message.offset;
            }
        }
    };
    timeout(DEADLINE, next).await.expect("a message in time")
}

/// Events until the server's answer to that send is among them.
async fn settled(events: &mut mpsc::Receiver<Event>, client_id: &str) {
    let next = async {
        loop {
            match events.recv().await.expect("still running") {
                Event::Frame(ServerFrame::Accepted(accepted)) if accepted.client_id == client_id => return,
                Event::Frame(ServerFrame::Rejected(rejected)) if rejected.client_id == client_id => return,
                _ => {}
            }
        }
    };
    timeout(DEADLINE, next).await.expect("an answer in time");
}

fn draft(client_id: &str) -> Draft {
    Draft::text(client_id, Target::User("bob".to_owned()), "hi")
}

#[tokio::test]
async fn each_position_is_handed_over_once_acknowledged_and_resumed_from() {
    let (listener, handle, mut events) = start(Some(3)).await;
    let (mut peer, resumed_from) = Peer::greet(&listener, 5).await;
    assert_eq!(resumed_from, 3, "the position that was stored");
    for offset in [7, 7, 6, 9] {
        peer.message(offset).await;
    }
    assert_eq!(next_message(&mut events).await, 7);
    assert_eq!(next_message(&mut events).await, 9);
    assert_eq!(peer.hear("ack").await["offset"], 9, "one acknowledgement for both");
    assert_eq!(handle.position(), 9);
    drop(peer);
    let (mut peer, resumed_from) = Peer::greet(&listener, 9).await;
    assert_eq!(resumed_from, 9);
    peer.message(9).await;
    peer.message(12).await;
    assert_eq!(next_message(&mut events).await, 12);
}

#[tokio::test]
async fn a_server_that_names_a_smaller_position_is_believed() {
    let (listener, handle, mut events) = start(Some(50)).await;
    let (mut peer, _) = Peer::greet(&listener, 2).await;
    peer.message(3).await;
    assert_eq!(next_message(&mut events).await, 3);
    assert_eq!(handle.position(), 3);
}

#[tokio::test]
async fn sends_are_repeated_in_order_after_a_reconnect_until_they_are_settled() {
    let (listener, handle, mut events) = start(None).await;
    for client_id in ["a", "b", "c"] {
        handle.send(draft(client_id)).unwrap();
    }
    let (mut peer, _) = Peer::greet(&listener, 0).await;
    for client_id in ["a", "b", "c"] {
        assert_eq!(peer.hear("chat_message").await["client_id"], client_id);
    }
    peer.accept_send("b").await;
    settled(&mut events, "b").await;
    drop(peer);
    let (mut peer, _) = Peer::greet(&listener, 0).await;
    for client_id in ["a", "c"] {
        let again = peer.hear("chat_message").await;
        assert_eq!((&again["client_id"], &again["resend"]), (&json!(client_id), &json!(true)));
    }
    handle.send(draft("d")).unwrap();
    let new = peer.hear("chat_message").await;
    assert_eq!((&new["client_id"], new.get("resend")), (&json!("d"), None));
}

/// A chat that was closed and opened again counted from 1: what it sent was shown above all that was said before.
#[tokio::test]
async fn who_has_seen_nothing_yet_leaves_the_count_to_the_server() {
    let (listener, handle, mut events) = start(None).await;
    let (mut peer, _) = Peer::greet(&listener, 0).await;
    handle.send(draft("first")).unwrap();
    assert_eq!(peer.hear("chat_message").await.get("lamport"), None);
    peer.message(5).await;
    assert_eq!(next_message(&mut events).await, 5);
    handle.send(draft("second")).unwrap();
    assert_eq!(peer.hear("chat_message").await["lamport"], 2, "1 was seen");
}

#[tokio::test]
async fn an_unknown_outcome_is_sent_again_and_a_refusal_is_not() {
    let (listener, handle, mut events) = start(None).await;
    let (mut peer, _) = Peer::greet(&listener, 0).await;
    for (client_id, code, retryable) in [("no", "refused", false), ("unknown", "unavailable", true)] {
        handle.send(draft(client_id)).unwrap();
        assert_eq!(peer.hear("chat_message").await["client_id"], client_id);
        peer.say(&json!({"type": "rejected", "client_id": client_id, "code": code, "reason": "r",
            "retryable": retryable}))
            .await;
        settled(&mut events, client_id).await;
    }
    let again = peer.hear("chat_message").await;
    assert_eq!((&again["client_id"], &again["resend"]), (&json!("unknown"), &json!(true)));
}

#[tokio::test]
async fn one_send_too_many_is_refused_aloud_and_fits_once_another_is_settled() {
    // It was dropped with a line in the log, and whoever sent it waited for ever.
    let (listener, handle, mut events) = start(None).await;
    let (mut peer, _) = Peer::greet(&listener, 0).await;
    for n in 0..1_000 {
        handle.send(draft(&n.to_string())).unwrap();
        assert_eq!(peer.hear("chat_message").await["client_id"], n.to_string());
    }
    assert!(matches!(handle.send(draft("more")), Err(ClientError::TooManyWaiting { waiting: 1_000 })));
    peer.accept_send("7").await;
    settled(&mut events, "7").await;
    handle.send(draft("more")).unwrap();
    assert_eq!(peer.hear("chat_message").await["client_id"], "more");
}

#[tokio::test]
async fn a_code_that_says_so_ends_the_client() {
    let (listener, handle, mut events) = start(None).await;
    let (mut peer, _) = Peer::greet(&listener, 0).await;
    let close = CloseFrame { code: 4509.into(), reason: "replaced by the same device elsewhere".into() };
    peer.0.send(Message::Close(Some(close))).await.unwrap();
    let stopped = async {
        loop {
            match events.recv().await {
                Some(Event::Stopped(stopped)) => return stopped,
                Some(_) => {}
                None => panic!("it ended without a word"),
            }
        }
    };
    let stopped = timeout(DEADLINE, stopped).await.expect("an end in time");
    assert_eq!(stopped.code.map(heddle_protocol::CloseCode::number), Some(4509));
    assert!(events.recv().await.is_none());
    assert!(matches!(handle.send(draft("late")), Err(ClientError::Stopped)));
}
