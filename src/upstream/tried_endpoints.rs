//! The endpoints that a request was sent to already.

use super::endpoint::{Endpoint, Token};

/// Tokens stored inline: the default of two retries never needs more.
const FEW: usize = 4;

/// The endpoints that a request was already sent to.
#[derive(Clone, Debug, Default)]
pub struct TriedEndpoints {
    few: [Option<Token>; FEW],
    more: Vec<Token>,
    /// An endpoint was selected and may be selected again.
    is_repeated: bool,
}

impl TriedEndpoints {
    /// Creates an empty set.
    pub const fn new() -> Self {
        Self { few: [None; FEW], more: Vec::new(), is_repeated: false }
    }

    /// Adds an endpoint.
    pub fn add(&mut self, endpoint: &Endpoint) {
        let token = endpoint.token();
        match self.few.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(token),
            None => self.more.push(token),
        }
    }

    /// The request is sent again although no endpoint failed: its pooled connection had been closed.
    pub fn repeat(&mut self) {
        self.is_repeated = true;
    }

    /// Returns whether the request is sent again although no endpoint failed.
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    /// Returns whether no endpoint was selected for the request before.
    pub fn is_first_choice(&self) -> bool {
        self.is_empty() && !self.is_repeated
    }

    /// Returns whether an endpoint was tried.
    pub fn contains(&self, endpoint: &Endpoint) -> bool {
        let token = endpoint.token();
        self.few.contains(&Some(token)) || self.more.contains(&token)
    }

    /// Returns whether no endpoint was tried.
    pub fn is_empty(&self) -> bool {
        self.few[0].is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::announced::Identity;
    use crate::upstream::{Address, Health};
    use std::sync::Arc;

    fn endpoint(port: u16) -> Arc<Endpoint> {
        let address = Address::Tcp(([127, 0, 0, 1], port).into());
        Endpoint::new(&"web".into(), Identity::at(address), None, Health::Healthy)
    }

    #[test]
    fn tried_holds_more_than_fit_inline() {
        let endpoints: Vec<_> = (1..=9).map(endpoint).collect();
        let mut tried = TriedEndpoints::new();
        assert!(tried.is_empty());
        for each in &endpoints {
            assert!(!tried.contains(each));
            tried.add(each);
        }
        assert!(endpoints.iter().all(|each| tried.contains(each)));
    }
}
