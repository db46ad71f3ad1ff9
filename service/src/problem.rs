//! The error body of every route: `application/problem+json` (RFC 9457).

use crate::http::Answer;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

/// A refusal that says what to do. `type` is mostly left at `about:blank`: status and `title` are the kind, `detail` the case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(
    description = "Why a request was refused (RFC 9457). `type` is left out where it is at its default, `about:blank`."
)]
pub struct Problem {
    /// The kind of problem, where programs have to tell it from others of the same status.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    kind: Option<String>,
    /// The status code.
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// The kind of problem: the status in words, or the end of `type`.
    title: &'static str,
    /// The case: what was wrong, and what would be right.
    detail: String,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem of `status`. `detail` says what was wrong and what would be right.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: None, status: status.as_u16(), title, detail: detail.into(), retry_after_s: None }
    }

    /// Names the kind of problem, such as `room-closed`.
    #[must_use]
    pub fn kind(mut self, name: &'static str) -> Self {
        (self.kind, self.title) = (Some(format!("urn:uproar:problem:{name}")), name);
        self
    }

    /// Adds `Retry-After`, in seconds (RFC 9110, 10.2.3).
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Seconds after which a retry may help, where it may.
    pub fn retry_after_s(&self) -> Option<u32> {
        self.retry_after_s
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        Answer::from(self).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_problem_has_its_status_its_type_and_when_to_retry() {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the log is away").retry_after(2);
        let response = problem.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "2");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, r#"{"status":503,"title":"Service Unavailable","detail":"the log is away"}"#);
    }
}
