//! Fields of a request or a response as a plugin reads and changes them.

use crate::is_same_spelling;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::ops::Deref;

/// Where the gateway keeps the fields of a request or a response.
pub trait Fields: Send {
    /// All of them.
    fn map(&self) -> &HeaderMap;
    /// Replaces every field of this name.
    fn set(&mut self, name: &HeaderName, value: HeaderValue);
    /// Adds a field after those of this name.
    fn append(&mut self, name: &HeaderName, value: HeaderValue);
    /// Removes every field of this name.
    fn remove(&mut self, name: &HeaderName);
}

impl Fields for HeaderMap {
    fn map(&self) -> &HeaderMap {
        self
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }
    fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        HeaderMap::append(self, name, value);
    }
    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }
}

/// Read-only fields: writes to them have no effect.
pub struct ReadOnlyHeaders<'a>(pub &'a HeaderMap);

impl Fields for ReadOnlyHeaders<'_> {
    fn map(&self) -> &HeaderMap {
        self.0
    }
    fn set(&mut self, _: &HeaderName, _: HeaderValue) {}
    fn append(&mut self, _: &HeaderName, _: HeaderValue) {}
    fn remove(&mut self, _: &HeaderName) {}
}

/// Fields to read, as an [`http::HeaderMap`], and to change.
///
/// In a request all spellings of a name are one field (`X-User`, `X_User`, `X.User`): a backend may not tell them
/// apart, so replacing or removing one removes the others too.
pub struct Headers<'a> {
    fields: &'a mut dyn Fields,
    of_request: bool,
}

impl<'a> Headers<'a> {
    /// The fields of a request.
    pub fn request(fields: &'a mut dyn Fields) -> Self {
        Self { fields, of_request: true }
    }

    /// The fields of a response.
    pub fn response(fields: &'a mut dyn Fields) -> Self {
        Self { fields, of_request: false }
    }

    /// Replaces every field of this name.
    pub fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.remove_other_spellings(name);
        self.fields.set(name, value);
    }

    /// Replaces every field of exactly this spelling, and keeps the others: an operator may set both.
    pub fn set_exact(&mut self, name: &HeaderName, value: HeaderValue) {
        self.fields.set(name, value);
    }

    /// Adds one after those of this name.
    pub fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        self.fields.append(name, value);
    }

    /// Removes every field of this name.
    pub fn remove(&mut self, name: &HeaderName) {
        self.remove_other_spellings(name);
        self.fields.remove(name);
    }

    /// Removes every field of this very spelling.
    pub fn remove_exact(&mut self, name: &HeaderName) {
        self.fields.remove(name);
    }

    fn remove_other_spellings(&mut self, name: &HeaderName) {
        if self.of_request {
            remove_other_spellings(self.fields, name);
        }
    }
}

impl Deref for Headers<'_> {
    type Target = HeaderMap;

    fn deref(&self) -> &HeaderMap {
        self.fields.map()
    }
}

/// Removes the other spellings of `name`; `name` itself stays.
fn remove_other_spellings(fields: &mut dyn Fields, name: &HeaderName) {
    let is_other = |other: &&HeaderName| *other != name && is_same_spelling(other.as_str(), name.as_str());
    // Almost no request has one: the list allocates nothing then.
    let others: Vec<_> = fields.map().keys().filter(is_other).cloned().collect();
    for other in &others {
        fields.remove(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_itself_stays() {
        let mut fields = HeaderMap::new();
        for name in ["x-user", "x_user", "x.user", "x-users"] {
            fields.append(name, HeaderValue::from_static("1"));
        }
        remove_other_spellings(&mut fields, &HeaderName::from_static("x-user"));
        let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["x-user", "x-users"]);
    }
}
