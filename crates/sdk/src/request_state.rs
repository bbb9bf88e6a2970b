//! The gateway's state of one request across phases: its ID, and the plugins' state. Empty until first use, so that
//! a request without plugins costs nothing.

use crate::{CaughtDrop, Direction, Edits, call_caught};
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The state of one request in a plugin chain, from the request's head to the log.
#[derive(Default)]
pub struct RequestState {
    pub(crate) id: Option<HeaderValue>,
    current_plugin: usize,
    /// The plugins among the first 64 whose conditions were evaluated: most chains are no longer.
    pub(crate) judged: u64,
    /// Whether the route matches paths with the parameters of their segments.
    pub(crate) keeps_path_parameters: bool,
    pub(crate) slots: Vec<Option<Slot>>,
    /// Rare state behind one pointer: most requests have no edits, notes or skipped plugins.
    pub(crate) lazy: Option<Box<LazyState>>,
}

/// The state of a plugin.
pub(crate) enum Slot {
    /// A value, and its form for another process if it has one.
    Value(CaughtDrop<Box<dyn Any + Send + Sync>>, Option<Save>),
    /// What another process has written; read when the plugin is called.
    Saved(serde_json::Value),
}

type Save = fn(&(dyn Any + Send + Sync)) -> Option<serde_json::Value>;

impl Slot {
    /// The state for another process; `None` if it has no such form.
    pub(crate) fn save(&self) -> Option<serde_json::Value> {
        match self {
            Self::Value(value, Some(save)) => call_caught(|| save(&***value))?,
            Self::Value(_, None) => None,
            Self::Saved(value) => Some(value.clone()),
        }
    }

    fn is<T: 'static>(&self) -> bool {
        matches!(self, Self::Value(value, _) if value.is::<T>())
    }
}

#[derive(Default)]
pub(crate) struct LazyState {
    edits: Edits,
    notes: Vec<Note>,
    pub(crate) skipped: Vec<SkippedPhases>,
    client_fields: Vec<ClientField>,
    calls: Option<PluginCalls>,
}

/// The maximum number of recorded calls of one request: a body may have any number of chunks.
const MOST_CALLS: usize = 64;

/// A call of a plugin, for traces.
#[derive(Clone, Copy, Debug)]
pub struct PluginCall {
    /// The plugin's position in its chain.
    pub by: usize,
    /// The phase.
    pub phase: &'static str,
    /// What the call returned, as a short word.
    pub result: &'static str,
    /// When it began.
    pub begun: Instant,
    /// How long it took, waiting included.
    pub took: Duration,
}

/// The recorded calls of a request.
#[derive(Clone, Debug, Default)]
pub struct PluginCalls {
    /// The first 64 calls.
    pub calls: Vec<PluginCall>,
    /// The number of further calls.
    pub omitted: u32,
}

/// A client's value of a field that a plugin owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientField {
    /// The field's name as sent.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
    /// Whether it is no longer among the request's fields.
    pub is_withdrawn: bool,
}

/// The phases from which a plugin is excluded.
#[derive(Clone, Copy, Default)]
pub(crate) struct SkippedPhases {
    pub(crate) all: bool,
    bodies: bool,
    pub(crate) judged: bool,
    /// It has changed, or held back, a piece of the body in this direction.
    changed: [bool; 2],
}

/// A plugin's entry in the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The plugin's position in its chain.
    pub by: usize,
    /// Its key.
    pub key: Cow<'static, str>,
    /// Its value.
    pub value: String,
}

impl RequestState {
    /// The request's ID, generated on first use.
    pub fn request_id(&mut self) -> &HeaderValue {
        self.id.get_or_insert_with(random_id)
    }

    /// The request's ID, if it was used.
    pub fn known_request_id(&self) -> Option<&HeaderValue> {
        self.id.as_ref()
    }

    /// Sets an ID from elsewhere.
    pub fn set_request_id(&mut self, id: HeaderValue) {
        self.id = Some(id);
    }

    /// Matches paths with the parameters of their segments, including those that plugins write. Called by the
    /// gateway.
    pub fn keep_path_parameters(&mut self) {
        self.keeps_path_parameters = true;
    }

    pub(crate) fn keeps_path_parameters(&self) -> bool {
        self.keeps_path_parameters
    }

    /// Sets the current plugin by its position in the chain. Called by the chain.
    pub fn begin_plugin(&mut self, position: usize) {
        self.current_plugin = position;
    }

    /// Excludes a plugin from the rest of this request: its condition is false, or it failed and is optional.
    /// Called by the chain.
    pub fn skip(&mut self, position: usize) {
        self.skipped(position).all = true;
    }

    /// Whether a plugin is skipped.
    pub fn skips(&self, position: usize) -> bool {
        self.left_out(position, |skipped| skipped.all)
    }

    /// Whether a plugin is skipped in the body phases.
    pub fn skips_bodies(&self, position: usize) -> bool {
        self.left_out(position, |skipped| skipped.all || skipped.bodies)
    }

    /// Records that a plugin changed a piece of a body: the rest can no longer continue without the plugin. Called
    /// by the chain.
    pub fn change_body(&mut self, position: usize, direction: Direction) {
        self.skipped(position).changed[direction as usize] = true;
    }

    /// Whether a plugin has changed, or held back, a piece of the body in this direction.
    pub fn has_changed_body(&self, position: usize, direction: Direction) -> bool {
        self.left_out(position, |skipped| skipped.changed[direction as usize])
    }

    /// Records that a plugin's condition was evaluated. Called by the chain.
    pub fn judge(&mut self, position: usize) {
        match 1_u64.checked_shl(u32::try_from(position).unwrap_or(u32::MAX)) {
            Some(bit) => self.judged |= bit,
            None => self.skipped(position).judged = true,
        }
    }

    /// Whether a plugin's condition was evaluated.
    pub fn is_judged(&self, position: usize) -> bool {
        match 1_u64.checked_shl(u32::try_from(position).unwrap_or(u32::MAX)) {
            Some(bit) => self.judged & bit != 0,
            None => self.left_out(position, |skipped| skipped.judged),
        }
    }

    fn left_out(&self, position: usize, of: impl FnOnce(&SkippedPhases) -> bool) -> bool {
        self.lazy.as_ref().is_some_and(|lazy| lazy.skipped.get(position).is_some_and(of))
    }

    fn skipped(&mut self, position: usize) -> &mut SkippedPhases {
        let skipped = &mut self.lazy().skipped;
        if skipped.len() <= position {
            skipped.resize(position + 1, SkippedPhases::default());
        }
        &mut skipped[position]
    }

    pub(crate) fn leave_bodies(&mut self) {
        self.skipped(self.current_plugin).bodies = true;
    }

    pub(crate) fn has_left_bodies(&self) -> bool {
        self.skips_bodies(self.current_plugin)
    }

    /// Stores the client's values of fields that plugins own. Called by the chain.
    pub fn set_client_fields(&mut self, fields: Vec<ClientField>) {
        if !fields.is_empty() || self.lazy.is_some() {
            self.lazy().client_fields = fields;
        }
    }

    /// Marks a field as withdrawn. Returns the client's values that are still present, unless it was withdrawn
    /// before; removed or replaced values are forgotten. Called by the chain.
    pub fn withdraw(&mut self, name: &HeaderName, standing: &[HeaderValue]) -> Vec<HeaderValue> {
        let Some(lazy) = &mut self.lazy else { return Vec::new() };
        let is_present = |field: &ClientField| field.name == *name && !field.is_withdrawn;
        lazy.client_fields.retain(|field| !is_present(field) || standing.contains(&field.value));
        let mut values = Vec::new();
        for field in lazy.client_fields.iter_mut().filter(|field| is_present(field)) {
            field.is_withdrawn = true;
            values.push(field.value.clone());
        }
        values
    }

    /// The client's values of fields that plugins own.
    pub fn client_fields(&self) -> &[ClientField] {
        self.lazy.as_ref().map_or(&[], |lazy| &lazy.client_fields)
    }

    /// The plugins' changes of method and target.
    pub fn edits(&self) -> Option<&Edits> {
        self.lazy.as_ref().map(|lazy| &lazy.edits)
    }

    pub(crate) fn edit(&mut self) -> &mut Edits {
        &mut self.lazy().edits
    }

    /// The plugins' entries in the access log, in their order.
    pub fn notes(&self) -> &[Note] {
        self.lazy.as_ref().map_or(&[], |lazy| &lazy.notes)
    }

    pub(crate) fn note(&mut self, key: impl Into<Cow<'static, str>>, value: String) {
        let (by, key) = (self.current_plugin, key.into());
        let notes = &mut self.lazy().notes;
        match notes.iter_mut().find(|note| note.by == by && note.key == key) {
            Some(note) => note.value = value,
            None => notes.push(Note { by, key, value }),
        }
    }

    /// Records the calls of plugins from now on. Called by the gateway for a request that is traced.
    pub fn record_calls(&mut self) {
        self.lazy().calls = Some(PluginCalls::default());
    }

    /// The time at the beginning of a call; `None` unless calls are recorded. Called by the chain.
    pub fn call_begins(&self) -> Option<Instant> {
        self.lazy.as_ref().is_some_and(|lazy| lazy.calls.is_some()).then(Instant::now)
    }

    /// Records a call of the current plugin that began at `begun`. Called by the chain.
    pub fn call_ended(&mut self, begun: Option<Instant>, phase: &'static str, result: &'static str) {
        let (Some(begun), by) = (begun, self.current_plugin) else { return };
        let Some(recorded) = self.lazy.as_mut().and_then(|lazy| lazy.calls.as_mut()) else { return };
        if recorded.calls.len() < MOST_CALLS {
            recorded.calls.push(PluginCall { by, phase, result, begun, took: begun.elapsed() });
        } else {
            recorded.omitted = recorded.omitted.saturating_add(1);
        }
    }

    /// Takes the recorded calls; no more are recorded.
    pub fn take_calls(&mut self) -> PluginCalls {
        self.lazy.as_mut().and_then(|lazy| lazy.calls.take()).unwrap_or_default()
    }

    fn lazy(&mut self) -> &mut LazyState {
        self.lazy.get_or_insert_default()
    }

    /// Moves the state of the plugin at this position to another request state, where its phases continue
    /// separately. Called by the gateway.
    pub fn hand_over(&mut self, position: usize, to: &mut Self) {
        let Some(slot) = self.slots.get_mut(position) else { return };
        let Some(slot) = slot.take() else { return };
        to.fill(position, slot);
    }

    pub(crate) fn fill(&mut self, position: usize, slot: Slot) {
        if self.slots.len() <= position {
            self.slots.resize_with(position + 1, || None);
        }
        self.slots[position] = Some(slot);
    }

    pub(crate) fn state<T: Default + Send + Sync + 'static>(&mut self) -> &mut T {
        self.slot_of(|_| T::default(), None)
    }

    pub(crate) fn movable_state<T>(&mut self) -> &mut T
    where
        T: Default + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let read = |saved| serde_json::from_value(saved).unwrap_or_default();
        let save: Save = |state| serde_json::to_value(state.downcast_ref::<T>()?).ok();
        self.slot_of(|saved| saved.map(read).unwrap_or_default(), Some(save))
    }

    /// The state of the current plugin, made by `make` unless there is one. Of another process's state it gets what that
    /// one has written.
    fn slot_of<T: Send + Sync + 'static>(
        &mut self,
        make: impl FnOnce(Option<serde_json::Value>) -> T,
        save: Option<Save>,
    ) -> &mut T {
        let position = self.current_plugin;
        if !self.slots.get(position).and_then(Option::as_ref).is_some_and(Slot::is::<T>) {
            let saved = match self.slots.get_mut(position).and_then(Option::take) {
                Some(Slot::Saved(value)) => Some(value),
                Some(Slot::Value(..)) | None => None,
            };
            self.fill(position, Slot::Value(CaughtDrop::new(Box::new(make(saved))), save));
        }
        let slot = self.slots[position].as_mut();
        match slot.and_then(|slot| if let Slot::Value(value, _) = slot { value.downcast_mut() } else { None })
        {
            Some(state) => state,
            None => unreachable!("the slot was filled with this type just above"),
        }
    }
}

/// 128 random bits as 32 hexadecimal digits.
fn random_id() -> HeaderValue {
    let (high, low) = random_bits();
    let mut digits = [0; 32];
    for (word, digits) in [high, low].into_iter().zip(digits.chunks_exact_mut(16)) {
        for (n, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(word >> (60 - 4 * n)) as usize & 15];
        }
    }
    // Hexadecimal digits are always a valid field value.
    HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// 128 bits from two generators per thread. Each has 64 bits of state, so that one alone could not produce more
/// than 2^64 IDs. The standard library's hash keys, 128 bits of the system's randomness, seed both.
pub fn random_bits() -> (u64, u64) {
    thread_local! {
        static STATE: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    }
    STATE.with(|state| {
        let (a, b) = state.get().unwrap_or_else(|| {
            let seed = || getrandom::u64().unwrap_or_else(|_| fastrand::u64(..));
            (seed(), seed())
        });
        let (mut first, mut second) = (fastrand::Rng::with_seed(a), fastrand::Rng::with_seed(b));
        let bits = (first.u64(..), second.u64(..));
        state.set(Some((first.get_seed(), second.get_seed())));
        bits
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_32_hexadecimal_digits_and_differ() {
        let ids: HashSet<_> = (0..10_000).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.as_bytes().iter().all(u8::is_ascii_hexdigit)));
    }

    #[test]
    fn an_id_is_generated_once_and_only_on_use() {
        let mut running = RequestState::default();
        assert!(running.known_request_id().is_none());
        let id = running.request_id().clone();
        assert_eq!(running.request_id(), id);
    }

    #[test]
    fn calls_are_recorded_on_request_and_up_to_a_limit() {
        let mut running = RequestState::default();
        assert!(running.call_begins().is_none());
        running.record_calls();
        for _ in 0..MOST_CALLS + 3 {
            running.begin_plugin(7);
            let begun = running.call_begins();
            running.call_ended(begun, "log", "continue");
        }
        let recorded = running.take_calls();
        assert_eq!((recorded.calls.len(), recorded.omitted, recorded.calls[0].by), (MOST_CALLS, 3, 7));
        assert!(running.call_begins().is_none(), "no more are recorded");
    }

    #[test]
    fn a_note_belongs_to_its_plugin_and_the_last_value_counts() {
        let mut running = RequestState::default();
        running.begin_plugin(1);
        running.note("user", "ada".into());
        running.note("user", "grace".into());
        running.begin_plugin(2);
        running.note("user", "eve".into());
        let found: Vec<_> = running.notes().iter().map(|note| (note.by, note.value.as_str())).collect();
        assert_eq!(found, [(1, "grace"), (2, "eve")]);
    }

    #[test]
    fn only_the_skipped_plugin_is_skipped() {
        let mut running = RequestState::default();
        assert!(!running.skips(0));
        running.skip(2);
        assert!(running.skips(2) && running.skips_bodies(2) && !running.skips(1) && !running.skips(3));
        running.begin_plugin(4);
        running.leave_bodies();
        assert!(running.skips_bodies(4) && !running.skips(4) && !running.skips_bodies(3));
    }

    #[test]
    fn a_condition_is_evaluated_once_at_any_position() {
        let mut running = RequestState::default();
        for position in [0, 63, 64, 200] {
            assert!(!running.is_judged(position));
            running.judge(position);
            assert!(
                running.is_judged(position) && !running.is_judged(position + 1) && !running.skips(position)
            );
        }
    }

    #[test]
    fn handed_over_state_is_moved() {
        let (mut here, mut there) = (RequestState::default(), RequestState::default());
        here.begin_plugin(2);
        *here.state::<u32>() = 7;
        for position in [0, 2, 9] {
            here.hand_over(position, &mut there);
        }
        there.begin_plugin(2);
        assert_eq!((*here.state::<u32>(), *there.state::<u32>()), (0, 7));
    }

    #[test]
    fn each_plugin_has_its_own_state() {
        let mut running = RequestState::default();
        running.begin_plugin(3);
        *running.state::<u32>() = 7;
        running.begin_plugin(0);
        assert_eq!(*running.state::<u32>(), 0);
        running.begin_plugin(3);
        assert_eq!(*running.state::<u32>(), 7);
    }
}
