//! Request fields owned by a plugin, such as the client's identity. A client's value reaches no other plugin
//! and no backend, even if the plugin is skipped: its `when` is false or cannot be evaluated, or it failed
//! with `on_error: open`.
//!
//! A field is removed before the first plugin runs. Credentials (RFC 9110 §11.6.2, RFC 6265 §4.2) are removed
//! directly before the owner runs, since plugins before it and its own condition may need them.

use super::{Chain, Entry};
use http::{HeaderName, HeaderValue, header};
use moongate_sdk::{ClientField, Exchange, is_same_spelling};
use std::sync::Arc;

const CREDENTIALS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// A field and the position of its owner.
#[derive(Debug)]
pub(super) struct OwnedFields {
    name: HeaderName,
    at: usize,
    /// Whether the field is removed directly before its owner runs.
    is_late: bool,
}

/// The owned fields of a chain.
pub(super) fn of(entries: &[Arc<Entry>]) -> Box<[OwnedFields]> {
    let owned = entries.iter().enumerate().flat_map(|(at, entry)| {
        let may_be_late = entry.phases().request_headers;
        let owned = move |name: &HeaderName| OwnedFields {
            name: name.clone(),
            at,
            is_late: may_be_late && CREDENTIALS.contains(name),
        };
        entry.owned().iter().map(owned)
    });
    owned.collect()
}

impl Chain {
    /// Returns whether no plugin owns a field.
    pub(super) fn owns_nothing(&self) -> bool {
        self.owned.is_empty()
    }

    /// Removes a client's values of owned fields from a new request.
    pub(super) fn withdraw(&self, exchange: &mut Exchange<'_>) {
        if self.owns_nothing() {
            return;
        }
        let mut sent: Vec<ClientField> = Vec::new();
        for name in exchange.headers.keys() {
            let mut owners = self
                .owned
                .iter()
                .filter(|owned| is_same_spelling(owned.name.as_str(), name.as_str()))
                .peekable();
            if owners.peek().is_none() {
                continue;
            }
            let is_withdrawn = owners.any(|owned| !owned.is_late);
            let values = exchange.headers.get_all(name).iter().cloned();
            sent.extend(values.map(|value| ClientField { name: name.clone(), value, is_withdrawn }));
        }
        for field in sent.iter().filter(|field| field.is_withdrawn) {
            exchange.headers.remove_exact(&field.name);
        }
        exchange.running.set_client_fields(sent);
    }

    /// Removes owned credentials directly before the owner runs or is skipped. Values set by plugins before
    /// it are kept.
    pub(super) fn withdraw_at(&self, at: usize, exchange: &mut Exchange<'_>) {
        for owned in self.owned.iter().filter(|owned| owned.at == at && owned.is_late) {
            let standing: Vec<HeaderValue> = exchange.headers.get_all(&owned.name).iter().cloned().collect();
            let sent = exchange.running.withdraw(&owned.name, &standing);
            if sent.is_empty() {
                continue;
            }
            exchange.headers.remove_exact(&owned.name);
            for value in standing.into_iter().filter(|value| !sent.contains(value)) {
                exchange.headers.append(&owned.name, value);
            }
        }
    }
}
