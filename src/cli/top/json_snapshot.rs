//! Overview and endpoints as one JSON object, with all members that the gateway sends.

use crate::cli::admin_client::StreamEvent;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The newest overview and the current endpoints.
#[derive(Debug, Default)]
pub(super) struct JsonSnapshot {
    overview: Option<Value>,
    /// `None` until the first event with endpoints.
    endpoints: Option<BTreeMap<(String, String), Value>>,
}

impl JsonSnapshot {
    /// Applies an event. Returns the object if the event completes a second.
    pub(super) fn apply(&mut self, event: &StreamEvent) -> Option<String> {
        let data: Value = serde_json::from_str(&event.data).ok()?;
        match event.name.as_str() {
            "overview" => {
                let is_first = self.overview.replace(data).is_none();
                // The first object waits for the endpoints, which may follow the overview.
                (!is_first || self.endpoints.is_some()).then(|| self.object()).flatten()
            }
            "upstreams" => {
                let is_first = self.endpoints.is_none();
                self.change(&data);
                is_first.then(|| self.object()).flatten()
            }
            _ => None,
        }
    }

    fn change(&mut self, changes: &Value) {
        let endpoints = self.endpoints.get_or_insert_default();
        if changes["reset"] == true {
            endpoints.clear();
        }
        let list = |name: &str| changes[name].as_array().map_or(&[][..], Vec::as_slice);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for gone in list("gone") {
            endpoints.remove(&(text(&gone[0]), text(&gone[1])));
        }
        for row in list("rows") {
            endpoints.insert((text(&row["upstream"]), text(&row["endpoint"])), row.clone());
        }
    }

    fn object(&self) -> Option<String> {
        let (overview, endpoints) = (self.overview.as_ref()?, self.endpoints.as_ref()?);
        let rows: Vec<_> = endpoints.values().collect();
        Some(json!({ "overview": overview, "upstreams": rows }).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_object_for_each_overview_once_both_parts_are_known() {
        let mut snapshot = JsonSnapshot::default();
        let mut apply = |name: &str, data: &str| {
            snapshot.apply(&StreamEvent { name: name.to_owned(), data: data.to_owned() })
        };
        assert_eq!(apply("hello", "{}"), None);
        assert_eq!(apply("overview", r#"{"requests":1}"#), None);
        let first = apply("upstreams", r#"{"reset":true,"rows":[{"upstream":"a","endpoint":"1","x":1}]}"#);
        let expected = r#"{"overview":{"requests":1},"upstreams":[{"endpoint":"1","upstream":"a","x":1}]}"#;
        assert_eq!(first.as_deref(), Some(expected));
        assert_eq!(apply("upstreams", r#"{"reset":false,"rows":[],"gone":[["a","1"]]}"#), None);
        assert_eq!(apply("overview", "{}").as_deref(), Some(r#"{"overview":{},"upstreams":[]}"#));
        assert_eq!(apply("overview", "not JSON"), None);
    }
}
