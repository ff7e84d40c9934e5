//! The calls that are no frames: history, groups, explanations.

use std::fmt::Write as _;
use std::time::Duration;

use heddle_client::Address;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// The server answers within this.
const DEADLINE: Duration = Duration::from_secs(10);
/// A longer answer is not one.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Where to ask, and as whom.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where the server is.
    pub address: Address,
    /// The bearer's token.
    pub token: String,
}

impl Place {
    /// Asks; a refusal is an error in the server's words.
    pub async fn call(self, method: Method, path: String, body: Option<String>) -> Result<Value, String> {
        let ask = self.ask(method, path, body);
        let seconds = DEADLINE.as_secs();
        let late = |_| Err(format!("{} did not answer within {seconds} s", self.address));
        tokio::time::timeout(DEADLINE, ask).await.unwrap_or_else(late)
    }

    async fn ask(&self, method: Method, path: String, body: Option<String>) -> Result<Value, String> {
        let address = &self.address;
        let failed = |error: &dyn std::fmt::Display| format!("{address} does not answer: {error}");
        let stream = address.connect().await.map_err(|error| failed(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", address.authority());
        request = request.header("authorization", format!("Bearer {}", self.token));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|error| failed(&error))?;
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| failed(&e))?;
        driver.abort();
        let answer: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(answer);
        }
        let said = answer.get("detail").or_else(|| answer.get("title")).and_then(Value::as_str);
        Err(said.map_or_else(|| format!("{address} answered {status}"), str::to_owned))
    }
}

/// A name as one piece of a path.
pub fn piece(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
