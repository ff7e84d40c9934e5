//! What the gateway counts. No label names a user or a conversation.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Handles, looked up once.
pub(crate) struct Figures {
    pub(crate) sockets: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) frames_in: Counter,
    pub(crate) frames_out: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) flushes: Counter,
    send_seconds: Histogram,
}

impl Figures {
    pub(crate) fn new() -> Self {
        Self {
            sockets: gauge!("heddle_gateway_sockets"),
            connections: gauge!("heddle_gateway_connections"),
            accepted: counter!("heddle_gateway_sockets_accepted_total"),
            frames_in: counter!("heddle_gateway_frames_received_total"),
            frames_out: counter!("heddle_gateway_frames_sent_total"),
            bytes_in: counter!("heddle_gateway_received_bytes_total"),
            bytes_out: counter!("heddle_gateway_sent_bytes_total"),
            flushes: counter!("heddle_gateway_flushes_total"),
            send_seconds: histogram!("heddle_gateway_send_seconds"),
        }
    }

    /// From a send's arrival to its outcome.
    pub(crate) fn send_settled(&self, took: Duration, code: &'static str) {
        self.send_seconds.record(took.as_secs_f64());
        counter!("heddle_gateway_sends_total", "outcome" => code).increment(1);
    }

    #[allow(clippy::unused_self, reason = "all counting goes through the handle")]
    pub(crate) fn closed(&self, code: u16) {
        counter!("heddle_gateway_closes_total", "code" => code.to_string()).increment(1);
    }

    #[allow(clippy::unused_self, reason = "all counting goes through the handle")]
    pub(crate) fn auth_failed(&self, reason: &'static str) {
        counter!("heddle_gateway_auth_failures_total", "reason" => reason).increment(1);
    }

    /// A TLS handshake came to its end.
    #[allow(clippy::unused_self, reason = "all counting goes through the handle")]
    pub(crate) fn handshake(&self, outcome: &'static str) {
        counter!("heddle_gateway_tls_handshakes_total", "outcome" => outcome).increment(1);
    }

    /// A trusted proxy's connection was closed for want of its PROXY header.
    #[allow(clippy::unused_self, reason = "all counting goes through the handle")]
    pub(crate) fn no_proxy_header(&self, reason: &'static str) {
        counter!("heddle_gateway_proxy_headers_refused_total", "reason" => reason).increment(1);
    }

    /// What is left of a listener's certificate; below zero when it has expired.
    #[allow(clippy::unused_self, reason = "all counting goes through the handle")]
    pub(crate) fn certificate(&self, listener: &'static str, left_s: f64) {
        gauge!("heddle_gateway_certificate_expires_seconds", "listener" => listener).set(left_s);
    }
}
