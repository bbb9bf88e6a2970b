//! Lookup of header fields, cookies and query parameters by name.
//!
//! A missing one reads as empty text. An error would make `request.headers["x"] != "y"` fail for a request without
//! the field, and a failed condition is false: a plugin for all but some requests would then be skipped.

use crate::evaluation_input::Facts;
use cel::ExecutionError;
use cel::common::traits::{Container, Indexer};
use cel::common::types::{CelString, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName};
use moongate_sdk::cookie;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// A group of named texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Headers,
    Cookies,
    Params,
    ResponseHeaders,
}

/// A group of a certain request, for names that are only known at evaluation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Texts<'a> {
    pub(super) group: Group,
    pub(super) facts: &'a Facts<'a>,
}

impl<'a> Texts<'a> {
    fn find(&self, name: &str) -> Option<Cow<'a, str>> {
        match self.group {
            Group::Headers => {
                HeaderName::from_bytes(name.as_bytes()).ok().and_then(|name| field(self.facts.headers, &name))
            }
            Group::ResponseHeaders => {
                let (_, headers) = self.facts.response?;
                HeaderName::from_bytes(name.as_bytes()).ok().and_then(|name| field(headers, &name))
            }
            Group::Cookies => cookie(self.facts.headers, name).map(String::from_utf8_lossy),
            Group::Params => parameter(self.facts.request.query, name),
        }
    }
}

/// A field's value; several of one name are joined as RFC 9110 §5.3 (and RFC 9113 §8.2.3 for cookies) defines.
/// Invalid UTF-8 becomes U+FFFD.
pub(super) fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter();
    let mut whole = String::from_utf8_lossy(values.next()?.as_bytes());
    // Set-Cookie cannot be joined: its commas have another meaning (RFC 9110 §5.3).
    if *name == SET_COOKIE {
        return Some(whole);
    }
    let between = if *name == COOKIE { "; " } else { ", " };
    for value in values {
        let whole = whole.to_mut();
        whole.push_str(between);
        whole.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    Some(whole)
}

/// The first query parameter of that name, decoded as `application/x-www-form-urlencoded`.
pub(super) fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, str>> {
    query?.split('&').filter(|pair| !pair.is_empty()).find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name).then(|| decoded(value))
    })
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(text).decode_utf8_lossy()
}

fn name_of(value: &dyn Val) -> Result<&str, ExecutionError> {
    value.downcast_ref::<CelString<'_>>().map(CelString::inner).ok_or_else(|| {
        ExecutionError::UnexpectedType { got: value.get_type().name().to_owned(), want: "string".to_owned() }
    })
}

impl Indexer for Texts<'_> {
    fn get<'b, 'v>(&'b self, name: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(CowVal::owned(CelString::from(self.find(name_of(name)?).unwrap_or_default())))
    }

    fn steal<'v>(self: Box<Self>, name: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(name).map(CowVal::into_owned)
    }
}

impl Container for Texts<'_> {
    fn contains(&self, name: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.find(name_of(name)?).is_some())
    }
}

impl Val for Texts<'_> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        static MAP: Type = MAP_TYPE;
        &MAP
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}
