//! Framing of a stream of JSON objects, as a watch responds: objects one after another, with white space between them.

use bytes::{Buf, Bytes, BytesMut};

/// Why a stream cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FramingError {
    /// Something other than an object begins.
    NotAnObject,
    /// An object is longer than the limit.
    TooLong,
}

/// Splits a stream into its objects. Their content is not judged: an object ends with the brace that closes its first one.
#[derive(Debug)]
pub(super) struct JsonObjects {
    buffer: BytesMut,
    /// The bytes of the buffer that were looked at.
    seen: usize,
    /// The open braces and brackets.
    depth: usize,
    is_in_text: bool,
    is_escaped: bool,
    longest: usize,
}

impl JsonObjects {
    /// Objects of at most `longest` bytes.
    pub(super) fn new(longest: usize) -> Self {
        Self { buffer: BytesMut::new(), seen: 0, depth: 0, is_in_text: false, is_escaped: false, longest }
    }

    /// Adds received bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete object; `None` if it is not complete yet.
    ///
    /// # Errors
    /// See [`FramingError`]; the stream cannot be continued.
    pub(super) fn next_object(&mut self) -> Result<Option<Bytes>, FramingError> {
        if self.depth == 0 {
            let blank = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.buffer.advance(blank);
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'{') => {}
                Some(_) => return Err(FramingError::NotAnObject),
            }
        }
        while let Some(byte) = self.buffer.get(self.seen) {
            self.seen += 1;
            match (byte, self.is_in_text) {
                (_, true) if self.is_escaped => self.is_escaped = false,
                (b'\\', true) => self.is_escaped = true,
                (b'"', is_in_text) => self.is_in_text = !is_in_text,
                (b'{' | b'[', false) => self.depth += 1,
                (b'}' | b']', false) => self.depth -= 1,
                _ => {}
            }
            if self.seen > self.longest {
                return Err(FramingError::TooLong);
            }
            if self.depth == 0 {
                let object = self.buffer.split_to(self.seen).freeze();
                self.seen = 0;
                return Ok(Some(object));
            }
        }
        Ok(None)
    }
}

/// Invariants for property tests and fuzzing: every split of a stream has the same objects, none is longer than the limit,
/// and none is lost.
#[cfg(any(test, fuzzing))]
#[allow(clippy::missing_panics_doc, reason = "a panic is the report")]
pub fn json_object_invariants(stream: &[u8], step: usize) {
    const LONGEST: usize = 64;
    let read = |step: usize| {
        let mut objects = JsonObjects::new(LONGEST);
        let mut found = Vec::new();
        for part in stream.chunks(step.max(1)) {
            objects.push(part);
            loop {
                match objects.next_object() {
                    Ok(Some(object)) => found.push(object),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    };
    let (whole, error) = read(stream.len());
    assert_eq!((whole.clone(), error), read(step));
    assert!(whole.iter().all(|object| object.len() <= LONGEST && object.starts_with(b"{")));
    let length: usize = whole.iter().map(Bytes::len).sum();
    assert!(length <= stream.len());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn objects(stream: &[u8]) -> Result<Vec<Bytes>, FramingError> {
        let mut objects = JsonObjects::new(1 << 10);
        objects.push(stream);
        let mut found = Vec::new();
        while let Some(object) = objects.next_object()? {
            found.push(object);
        }
        Ok(found)
    }

    #[test]
    fn objects_are_separated_by_any_white_space_or_none() {
        let stream = b"\n{\"a\":\"}\\\"{\"}{}\r\n {\"b\":[{\"c\":{}}]}\n{\"d\":";
        let found = objects(stream).unwrap();
        assert_eq!(found, [&b"{\"a\":\"}\\\"{\"}"[..], b"{}", b"{\"b\":[{\"c\":{}}]}"]);
    }

    #[test]
    fn what_is_no_object_ends_the_stream() {
        for stream in [&b"null"[..], b"{} [1]", b"\xff{}", b"}"] {
            assert_eq!(objects(stream), Err(FramingError::NotAnObject), "{stream:?}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 10));
        assert_eq!(objects(long.as_bytes()), Err(FramingError::TooLong));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_object_of_json_is_found_in_every_split(values in prop::collection::vec(prop::collection::btree_map(".{0,4}", value(), 0..4), 0..6), step in 1_usize..40) {
            let stream: String = values.iter().map(|value| format!("{}\n", json!(value))).collect();
            let mut objects = JsonObjects::new(1 << 20);
            let mut found = Vec::new();
            for part in stream.as_bytes().chunks(step) {
                objects.push(part);
                while let Some(object) = objects.next_object().unwrap() {
                    found.push(serde_json::from_slice::<Value>(&object).unwrap());
                }
            }
            prop_assert_eq!(found, values.iter().map(|value| json!(value)).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_taken(stream in prop::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'['), Just(b'"'), Just(b'\\'), any::<u8>()], 0..200), step in 1_usize..40) {
            json_object_invariants(&stream, step);
        }
    }
}
