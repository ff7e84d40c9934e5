//! `GET /v1/openapi.json`: OpenAPI 3.1, without a token.

use axum::response::{IntoResponse as _, Response};
use hyper::header;

const DOCUMENT: &str = include_str!("../../assets/openapi.json");

pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
