//! Talking to a running server's admin listener: found by its data directory, or by address.

use std::path::PathBuf;
use std::time::Duration;

use heddle_client::Address;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::failure::Failure;
use crate::named::Named;
use crate::ready::RunFile;

/// A longer answer is not one.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Nor a longer file.
const FILE_BYTES_MAX: usize = 256 << 20;

/// Where the server is.
#[derive(Debug, Clone, clap::Args)]
pub struct AdminArgs {
    /// The data directory of the server
    #[arg(long, value_name = "DIR", default_value = "./heddle-data", conflicts_with = "admin")]
    pub data: PathBuf,
    /// The server's admin address; https://HOST:PORT for one with TLS
    #[arg(long, value_name = "ADDR", value_parser = Named::parse)]
    pub admin: Option<Named>,
    /// Trust the authorities in this PEM file instead of those of this machine
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub ca: Option<PathBuf>,
    /// An admin token; without it, with --admin, the one of `heddle dev`
    #[arg(long, env = "HEDDLE_ADMIN__TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// An admin listener, and the right to ask it.
#[derive(Debug, Clone)]
pub struct AdminClient {
    address: Address,
    token: String,
    deadline: Duration,
}

/// An answer that is not a success.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// In the server's words.
    pub detail: String,
}

impl AdminArgs {
    /// Finds the server.
    ///
    /// # Errors
    /// If none runs on that directory.
    pub fn client(&self, deadline: Duration) -> Result<AdminClient, Failure> {
        let token = self.token.clone();
        let (address, token) = match &self.admin {
            Some(admin) => (
                admin.address(self.ca.as_deref())?,
                token.unwrap_or_else(|| crate::token::DEVELOPMENT_ADMIN_TOKEN.to_owned()),
            ),
            None => {
                let found = RunFile::read(&self.data)?;
                (found.admin_address()?, token.unwrap_or(found.admin_token))
            }
        };
        Ok(AdminClient { address, token, deadline })
    }
}

impl AdminClient {
    /// Where it is, for messages.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// One request; JSON comes back.
    ///
    /// # Errors
    /// If nobody answers in time, or the token is refused.
    pub async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Result<Value, Refusal>, Failure> {
        let (address, seconds) = (&self.address, self.deadline.as_secs());
        let answered = tokio::time::timeout(self.deadline, self.exchange(method, path, body)).await;
        let (status, answer) =
            answered.map_err(|_| Failure::new(format!("{address} did not answer within {seconds} s")))??;
        if status.is_success() {
            return Ok(Ok(answer));
        }
        let detail = answer.get("detail").or_else(|| answer.get("title")).and_then(Value::as_str);
        let detail = detail.unwrap_or("no detail").to_owned();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(Failure::usage(format!(
                "{address} refused the admin token ({detail}): name it with --token, or the data directory with --data"
            )));
        }
        Ok(Err(Refusal { status, detail }))
    }

    /// What stands at `path`, as it comes.
    ///
    /// # Errors
    /// If nobody answers in time, or the server refuses.
    pub async fn fetch(&self, path: &str) -> Result<Bytes, Failure> {
        let (address, seconds) = (&self.address, self.deadline.as_secs());
        let fetched =
            tokio::time::timeout(self.deadline, self.raw(Method::GET, path, Bytes::new(), FILE_BYTES_MAX)).await;
        let (status, body) =
            fetched.map_err(|_| Failure::new(format!("{address} did not answer within {seconds} s")))??;
        if status.is_success() {
            return Ok(body);
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Err(Failure::new(format!("{address} refused {path}: {}", answer["detail"].as_str().unwrap_or("no detail"))))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Value), Failure> {
        let (status, body) = self.raw(method, path, body, ANSWER_BYTES_MAX).await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    async fn raw(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let address = &self.address;
        let unreachable = |error: &dyn std::fmt::Display| {
            Failure::missing(format!(
                "no server answers at {address} ({error}): start one with `heddle dev`, or name it with --admin"
            ))
        };
        let stream = address.connect().await.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => Failure::usage(format!("cannot ask {address}: {error}")),
            _ => unreachable(&error),
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", address.to_string())
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(body))
            .map_err(|error| Failure::usage(format!("the token cannot stand in a header: {error}")))?;
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), bytes_max)
            .collect()
            .await
            .map_err(|error| Failure::new(format!("the answer of {address} broke off: {error}")))?
            .to_bytes();
        driver.abort();
        Ok((status, body))
    }
}

/// A text as it may stand in a query.
pub fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
