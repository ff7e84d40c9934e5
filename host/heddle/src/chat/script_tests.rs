use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::*;

/// A server that takes one connection, answers each frame as `answer` says (`close` closes), and returns what it heard.
async fn server(answer: fn(&str) -> Vec<&'static str>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = upgrade(stream).await;
        let mut heard = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let ty = serde_json::from_str::<Value>(&text).unwrap()["type"].as_str().unwrap().to_owned();
            heard.push(text.as_str().to_owned());
            for frame in answer(&ty) {
                let message = match frame {
                    "close" => Message::Close(Some(CloseFrame { code: 4509.into(), reason: "replaced".into() })),
                    frame => Message::text(frame),
                };
                if socket.send(message).await.is_err() {
                    return heard;
                }
            }
        }
        heard
    });
    (address, task)
}

#[allow(clippy::result_large_err, reason = "the callback's type is given")]
async fn upgrade(stream: TcpStream) -> WebSocketStream<TcpStream> {
    let echo = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        let name = "sec-websocket-protocol";
        if let Some(protocol) = request.headers().get(name) {
            response.headers_mut().insert(name, protocol.clone());
        }
        Ok(response)
    };
    accept_hdr_async(stream, echo).await.unwrap()
}

async fn play(address: &str, script: &str, ms: u64) -> (Result<(), Failure>, Vec<String>) {
    let steps = script.lines().enumerate().filter_map(|(at, line)| step(at + 1, line).transpose()).collect();
    let terms = Terms {
        server: address.into(),
        token: "t".to_owned(),
        device: "script".to_owned(),
        timeout: Duration::from_millis(ms),
    };
    let mut out = Vec::new();
    let result = run(&terms, ready(steps), &mut out).await;
    (result, String::from_utf8(out).unwrap().lines().map(str::to_owned).collect())
}

fn polite(ty: &str) -> Vec<&'static str> {
    match ty {
        "hello" => vec![r#"{"type":"hello_ok"}"#],
        "chat_message" => vec!["{\"type\":\"new_message\",\n\"offset\":1}", r#"{"type":"accepted"}"#],
        "ping" => vec!["close"],
        _ => vec![],
    }
}

#[tokio::test]
async fn hello_goes_first_by_itself_and_a_wait_takes_what_came_earlier() {
    let (address, heard) = server(polite).await;
    let script = "# a remark\n\n{\"type\":\"chat_message\"}\nwait accepted\nwait new_message\nwait hello_ok\npause 1";
    let (result, printed) = play(&address, script, 5_000).await;
    result.unwrap();
    let one_line = r#"{"type":"new_message","offset":1}"#;
    assert_eq!(printed.len(), 3, "{printed:?}");
    assert_eq!(serde_json::from_str::<Value>(&printed[1]).unwrap(), serde_json::from_str::<Value>(one_line).unwrap());
    let heard = heard.await.unwrap();
    assert_eq!(heard, [r#"{"type":"hello","device":"script"}"#, r#"{"type":"chat_message"}"#]);
}

#[tokio::test]
async fn a_script_that_says_hello_itself_is_not_helped() {
    let (address, heard) = server(polite).await;
    let own = r#"{"type":"hello","device":"tablet","resume":7}"#;
    let (result, _) = play(&address, &format!("pause 1\n{own}\nwait hello_ok"), 5_000).await;
    result.unwrap();
    assert_eq!(heard.await.unwrap(), [own]);
}

#[tokio::test]
async fn a_script_without_waits_still_prints_what_is_under_way() {
    let (address, _heard) = server(polite).await;
    let (result, printed) = play(&address, "{\"type\":\"chat_message\"}", 5_000).await;
    result.unwrap();
    assert_eq!(printed.len(), 3, "{printed:?}");
}

#[tokio::test]
async fn a_wait_in_vain_fails_with_its_line() {
    let (address, _heard) = server(polite).await;
    let (result, printed) = play(&address, "\nwait receipt", 50).await;
    let text = result.unwrap_err().text;
    assert_eq!(text, "line 2 of the script: wait receipt: nothing came within 50 ms");
    assert_eq!(printed, [r#"{"type":"hello_ok"}"#]);
}

#[tokio::test]
async fn a_closed_connection_fails_a_wait_with_its_code_unless_the_close_was_awaited() {
    for (wait, good) in [("accepted", false), ("close", true)] {
        let (address, _heard) = server(polite).await;
        let (result, _) = play(&address, &format!("{{\"type\":\"ping\"}}\nwait {wait}"), 5_000).await;
        assert_eq!(result.is_ok(), good, "{wait}: {result:?}");
        if let Err(failure) = result {
            assert!(failure.text.ends_with("closed with 4509 (replaced)"), "{failure}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_what_to_do() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let (result, _) = play(&address, "wait hello_ok", 5_000).await;
    let failure = result.unwrap_err();
    assert!(failure.text.contains(&address) && failure.text.contains("heddle dev"), "{failure}");
    assert_eq!(failure.code, crate::failure::MISSING);
}

#[test]
fn what_is_no_step_is_refused_with_its_line() {
    for (line, part) in
        [("wait", "no step"), ("pause long", "no step"), ("{\"a\"", "not one JSON"), ("hello", "no step")]
    {
        let failure = step(7, line).unwrap_err();
        assert!(failure.text.contains("line 7") && failure.text.contains(part), "{failure}");
        assert_eq!(failure.code, crate::failure::USAGE);
    }
}
