//! The suite's own client: its HTTP adapter (`adapters/http_default.js`), with the same checks of each response.

use std::net::SocketAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Result,
    browser::Browser,
    fixture::{NewEvent, Query},
};

pub(crate) struct Client {
    browser: Browser,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backwards: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct Sequenced {
    pub(crate) position: u64,
    #[serde(flatten)]
    pub(crate) event: NewEvent,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Appended {
    pub(crate) duration_in_microseconds: f64,
    pub(crate) append_condition_failed: bool,
}

impl Client {
    pub(crate) fn new(server: SocketAddr) -> Self {
        Self { browser: Browser::new([server]) }
    }

    pub(crate) async fn read(&self, query: &Query, options: Option<Options>) -> Result<Vec<Sequenced>> {
        let encoded = |json: String| utf8_percent_encode(&json, NON_ALPHANUMERIC).to_string();
        let mut path = format!("/read?query={}", encoded(serde_json::to_string(query)?));
        if let Some(options) = options {
            path += &format!("&options={}", encoded(serde_json::to_string(&options)?));
        }
        let answer = self.browser.get(&path).await?;
        understood("read events", answer.status.as_u16(), answer.body)
    }

    /// The position of the last matching event, or 0 if none matches.
    pub(crate) async fn last_position(&self, query: &Query) -> Result<u64> {
        let last = Options { backwards: Some(true), limit: Some(1), from: None };
        Ok(self.read(query, Some(last)).await?.first().map_or(0, |event| event.position))
    }

    pub(crate) async fn append(
        &self,
        events: &[NewEvent],
        fail_if_events_match: &Query,
        after: Option<u64>,
    ) -> Result<Appended> {
        let mut condition = json!({"failIfEventsMatch": fail_if_events_match});
        if let Some(after) = after {
            condition["after"] = after.into();
        }
        let answer = self.browser.post("/append", &json!({"events": events, "condition": condition})).await?;
        understood("append events", answer.status.as_u16(), answer.body)
    }
}

fn understood<T: DeserializeOwned>(what: &str, status: u16, body: Value) -> Result<T> {
    if status != 200 {
        return Err(format!("failed to {what}: {status} {body}").into());
    }
    serde_json::from_value(body).map_err(|error| format!("failed to {what}: invalid response data: {error}").into())
}
