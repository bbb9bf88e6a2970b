//! State of the plugins of an open WebSocket, for another process that continues it.

use crate::request_state::{ClientField, Note, RequestState, SkippedPhases, Slot};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// What another process needs of a [`RequestState`] in the phases of an open WebSocket.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct SavedRequestState {
    id: Option<String>,
    judged: u64,
    keeps_path_parameters: bool,
    /// The positions of the plugins that are skipped, and of those among the later ones that were evaluated.
    skipped: Vec<usize>,
    judged_later: Vec<usize>,
    notes: Vec<SavedNote>,
    client_fields: Vec<SavedField>,
    /// The states by position.
    slots: Vec<(usize, serde_json::Value)>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct SavedNote {
    by: usize,
    key: String,
    value: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct SavedField {
    name: String,
    value: String,
    is_withdrawn: bool,
}

impl RequestState {
    /// The state for another process; `None` if a plugin for which `continues` is true has a state that cannot be
    /// written ([`Exchange::state`](crate::Exchange::state)). Called by the gateway.
    pub fn save(&self, continues: impl Fn(usize) -> bool) -> Option<SavedRequestState> {
        let mut slots = Vec::new();
        for (position, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot.as_ref().filter(|_| continues(position)) else { continue };
            slots.push((position, slot.save()?));
        }
        let skipped = self.lazy.as_ref().map_or(&[][..], |lazy| &lazy.skipped);
        let positions = |of: fn(&SkippedPhases) -> bool| {
            skipped
                .iter()
                .enumerate()
                .filter(|(_, skipped)| of(skipped))
                .map(|(position, _)| position)
                .collect()
        };
        Some(SavedRequestState {
            id: self.id.as_ref().map(text),
            judged: self.judged,
            keeps_path_parameters: self.keeps_path_parameters,
            skipped: positions(|skipped| skipped.all),
            judged_later: positions(|skipped| skipped.judged),
            notes: self.notes().iter().map(SavedNote::of).collect(),
            client_fields: self.client_fields().iter().map(SavedField::of).collect(),
            slots,
        })
    }

    /// Continues with the state of another process. Called by the gateway.
    pub fn restore(saved: SavedRequestState) -> Self {
        let mut state = Self::default();
        state.id = saved.id.as_deref().and_then(value);
        state.judged = saved.judged;
        state.keeps_path_parameters = saved.keeps_path_parameters;
        // No chain is as long as this: the positions are bounded, because a state has room for all below.
        let bounded = |position: &usize| *position < LONGEST_CHAIN;
        saved.skipped.into_iter().filter(bounded).for_each(|position| state.skip(position));
        saved.judged_later.into_iter().filter(bounded).for_each(|position| state.judge(position));
        for note in saved.notes {
            state.begin_plugin(note.by);
            state.note(note.key, note.value);
        }
        state.set_client_fields(saved.client_fields.into_iter().filter_map(SavedField::restore).collect());
        for (position, value) in saved.slots.into_iter().filter(|(position, _)| bounded(position)) {
            state.fill(position, Slot::Saved(value));
        }
        state
    }
}

const LONGEST_CHAIN: usize = 1 << 16;

impl SavedNote {
    fn of(note: &Note) -> Self {
        Self { by: note.by, key: note.key.to_string(), value: note.value.clone() }
    }
}

impl SavedField {
    fn of(field: &ClientField) -> Self {
        let (name, value) = (field.name.to_string(), text(&field.value));
        Self { name, value, is_withdrawn: field.is_withdrawn }
    }

    fn restore(self) -> Option<ClientField> {
        let (name, value) = (HeaderName::try_from(self.name).ok()?, value(&self.value)?);
        Some(ClientField { name, value, is_withdrawn: self.is_withdrawn })
    }
}

/// The bytes of a value, each as the character of the same number.
fn text(value: &HeaderValue) -> String {
    value.as_bytes().iter().map(|byte| char::from(*byte)).collect()
}

/// `None` if a character is no byte of a value.
fn value(text: &str) -> Option<HeaderValue> {
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).ok()).collect::<Option<_>>()?;
    HeaderValue::from_bytes(&bytes).ok()
}

/// Fields as JSON, with `#[serde(with)]` in a state that moves to another process.
pub mod saved_fields {
    use super::{HeaderMap, HeaderName, text, value};
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    /// Writes fields.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(fields: &HeaderMap, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        pairs.serialize(serializer)
    }

    /// Reads fields; what is no field is skipped.
    ///
    /// # Errors
    /// If the form is another one.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderMap, D::Error> {
        let pairs = Vec::<(String, String)>::deserialize(deserializer)?;
        let mut fields = HeaderMap::with_capacity(pairs.len());
        for (name, written) in pairs {
            if let (Ok(name), Some(value)) = (HeaderName::try_from(name), value(&written)) {
                fields.append(name, value);
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[derive(Default, Deserialize, Serialize)]
    struct Count(u32);

    fn moved(state: &RequestState) -> RequestState {
        let saved = serde_json::to_string(&state.save(|_| true).unwrap()).unwrap();
        RequestState::restore(serde_json::from_str(&saved).unwrap())
    }

    #[test]
    fn notes_conditions_fields_and_movable_states_continue_in_another_process() {
        let mut state = RequestState::default();
        state.set_request_id(HeaderValue::from_static("id-1"));
        state.skip(2);
        state.judge(3);
        state.judge(70);
        let value = HeaderValue::from_bytes(b"a\xffb").unwrap();
        let name = HeaderName::from_static("x-user");
        state.set_client_fields(vec![ClientField { name, value, is_withdrawn: true }]);
        state.begin_plugin(1);
        state.note("refused", "to_backend".to_owned());
        state.movable_state::<Count>().0 = 7;
        // Twice, because the state of a plugin that was not called meanwhile moves on.
        let mut state = moved(&moved(&state));
        assert_eq!(state.known_request_id().unwrap(), "id-1");
        assert!(
            state.skips(2)
                && !state.skips(1)
                && state.is_judged(3)
                && state.is_judged(70)
                && !state.is_judged(4)
        );
        assert_eq!(state.client_fields()[0].value.as_bytes(), b"a\xffb");
        let note = &state.notes()[0];
        assert_eq!((note.by, &*note.key, &*note.value), (1, "refused", "to_backend"));
        state.begin_plugin(1);
        assert_eq!(state.movable_state::<Count>().0, 7);
    }

    #[test]
    fn a_state_that_cannot_be_written_stays_unless_its_plugin_is_not_called_again() {
        let mut state = RequestState::default();
        state.begin_plugin(1);
        *state.state::<u32>() = 7;
        assert!(state.save(|_| true).is_none());
        let saved = state.save(|position| position != 1).unwrap();
        let mut state = RequestState::restore(saved);
        state.begin_plugin(1);
        assert_eq!(*state.state::<u32>(), 0);
    }
}
