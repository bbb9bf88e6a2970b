//! What the gateway keeps about one request from phase to phase: its id, and what each plugin asked
//! to remember. Empty until somebody asks, so that a request without plugins pays nothing.

use crate::{CaughtDrop, Direction, Edits};
use http::{HeaderName, HeaderValue};
use std::any::Any;
use std::cell::Cell;

/// One request on its way through a chain. The gateway holds it from the request's head to the log.
#[derive(Default)]
pub struct Running {
    id: Option<HeaderValue>,
    turn: usize,
    /// Plugins among the first 64 whose conditions were evaluated: most chains are no longer.
    judged: u64,
    /// The route matches paths with the parameters of their segments.
    keeps_path_parameters: bool,
    slots: Vec<Option<CaughtDrop<Box<dyn Any + Send + Sync>>>>,
    /// Most requests are neither edited nor noted, nor is a plugin skipped: one pointer for all of it.
    rare: Option<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    edits: Edits,
    notes: Vec<Note>,
    skipped: Vec<Skipped>,
    client_fields: Vec<ClientField>,
}

/// What a client sent in a field that a plugin owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientField {
    /// The field's name as it came.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
    /// Whether it is no longer among the request's fields.
    pub is_withdrawn: bool,
}

/// What a plugin is left out of.
#[derive(Clone, Copy, Default)]
struct Skipped {
    all: bool,
    bodies: bool,
    judged: bool,
    /// It has changed, or held back, a piece of the body that goes this way.
    changed: [bool; 2],
}

/// Something that a plugin put into the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The plugin's position in its chain.
    pub by: usize,
    /// What it is about.
    pub key: &'static str,
    /// What it says.
    pub value: String,
}

impl Running {
    /// The request's id; made when first asked for.
    pub fn request_id(&mut self) -> &HeaderValue {
        self.id.get_or_insert_with(random_id)
    }

    /// The request's id, if anybody asked for one.
    pub fn known_request_id(&self) -> Option<&HeaderValue> {
        self.id.as_ref()
    }

    /// Takes over an id from elsewhere.
    pub fn set_request_id(&mut self, id: HeaderValue) {
        self.id = Some(id);
    }

    /// The route matches paths with the parameters of their segments: those that plugins write are read so too. The
    /// gateway calls it.
    pub fn keep_path_parameters(&mut self) {
        self.keeps_path_parameters = true;
    }

    pub(crate) fn keeps_path_parameters(&self) -> bool {
        self.keeps_path_parameters
    }

    /// Says whose turn it is, by the plugin's position in its chain; the chain calls it.
    pub fn begin_plugin(&mut self, position: usize) {
        self.turn = position;
    }

    /// Leaves a plugin out of what is still to come of this request: its condition does not hold, or it
    /// failed and is not needed. The chain calls it.
    pub fn skip(&mut self, position: usize) {
        self.skipped(position).all = true;
    }

    /// Whether a plugin is left out.
    pub fn skips(&self, position: usize) -> bool {
        self.left_out(position, |skipped| skipped.all)
    }

    /// Whether a plugin is left out of the phases of bodies.
    pub fn skips_bodies(&self, position: usize) -> bool {
        self.left_out(position, |skipped| skipped.all || skipped.bodies)
    }

    /// Notes that a plugin made something else of a piece of a body: the rest of it can no longer go on without the
    /// plugin. The chain calls it.
    pub fn change_body(&mut self, position: usize, direction: Direction) {
        self.skipped(position).changed[direction as usize] = true;
    }

    /// Whether a plugin has changed, or held back, a piece of the body that goes this way.
    pub fn has_changed_body(&self, position: usize, direction: Direction) -> bool {
        self.left_out(position, |skipped| skipped.changed[direction as usize])
    }

    /// Notes that a plugin's condition was evaluated. The chain calls it.
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

    fn left_out(&self, position: usize, of: impl FnOnce(&Skipped) -> bool) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.skipped.get(position).is_some_and(of))
    }

    fn skipped(&mut self, position: usize) -> &mut Skipped {
        let skipped = &mut self.rare().skipped;
        if skipped.len() <= position {
            skipped.resize(position + 1, Skipped::default());
        }
        &mut skipped[position]
    }

    pub(crate) fn leave_bodies(&mut self) {
        self.skipped(self.turn).bodies = true;
    }

    pub(crate) fn has_left_bodies(&self) -> bool {
        self.skips_bodies(self.turn)
    }

    /// Keeps what the client sent in fields that plugins own. The chain calls it.
    pub fn set_client_fields(&mut self, fields: Vec<ClientField>) {
        if !fields.is_empty() || self.rare.is_some() {
            self.rare().client_fields = fields;
        }
    }

    /// Marks a field as withdrawn. Gives the values that the client sent in it and that still stand there, unless it was
    /// withdrawn before; what a plugin has removed or replaced is forgotten. The chain calls it.
    pub fn withdraw(&mut self, name: &HeaderName, standing: &[HeaderValue]) -> Vec<HeaderValue> {
        let Some(rare) = &mut self.rare else { return Vec::new() };
        let is_present = |field: &ClientField| field.name == *name && !field.is_withdrawn;
        rare.client_fields.retain(|field| !is_present(field) || standing.contains(&field.value));
        let mut values = Vec::new();
        for field in rare.client_fields.iter_mut().filter(|field| is_present(field)) {
            field.is_withdrawn = true;
            values.push(field.value.clone());
        }
        values
    }

    /// What the client sent in fields that plugins own.
    pub fn client_fields(&self) -> &[ClientField] {
        self.rare.as_ref().map_or(&[], |rare| &rare.client_fields)
    }

    /// What plugins changed of what the request asks for.
    pub fn edits(&self) -> Option<&Edits> {
        self.rare.as_ref().map(|rare| &rare.edits)
    }

    pub(crate) fn edit(&mut self) -> &mut Edits {
        &mut self.rare().edits
    }

    /// What plugins put into the access log, in that order.
    pub fn notes(&self) -> &[Note] {
        self.rare.as_ref().map_or(&[], |rare| &rare.notes)
    }

    pub(crate) fn note(&mut self, key: &'static str, value: String) {
        let by = self.turn;
        let notes = &mut self.rare().notes;
        match notes.iter_mut().find(|note| note.by == by && note.key == key) {
            Some(note) => note.value = value,
            None => notes.push(Note { by, key, value }),
        }
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Hands over what the plugin at this position keeps, to where its phases go on apart from the others'. The
    /// gateway calls it.
    pub fn hand_over(&mut self, position: usize, to: &mut Self) {
        let Some(slot) = self.slots.get_mut(position) else { return };
        if to.slots.len() <= position {
            to.slots.resize_with(position + 1, || None);
        }
        to.slots[position] = slot.take();
    }

    pub(crate) fn state<T: Default + Send + Sync + 'static>(&mut self) -> &mut T {
        if self.slots.len() <= self.turn {
            self.slots.resize_with(self.turn + 1, || None);
        }
        let slot = &mut self.slots[self.turn];
        if !slot.as_ref().is_some_and(|state| state.is::<T>()) {
            *slot = Some(CaughtDrop::new(Box::new(T::default())));
        }
        match slot.as_mut().and_then(|state| state.downcast_mut()) {
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

/// 128 bits from two generators a thread. Each holds 64 bits of state, so one alone could never give
/// more than 2^64 ids; 128 bits of the system's randomness seed both. Ids have to differ and need not be secret.
fn random_bits() -> (u64, u64) {
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
    fn an_id_is_made_once_and_only_when_asked_for() {
        let mut running = Running::default();
        assert!(running.known_request_id().is_none());
        let id = running.request_id().clone();
        assert_eq!(running.request_id(), id);
    }

    #[test]
    fn a_note_is_its_plugins_and_the_last_word_counts() {
        let mut running = Running::default();
        running.begin_plugin(1);
        running.note("user", "ada".into());
        running.note("user", "grace".into());
        running.begin_plugin(2);
        running.note("user", "eve".into());
        let said: Vec<_> = running.notes().iter().map(|note| (note.by, note.value.as_str())).collect();
        assert_eq!(said, [(1, "grace"), (2, "eve")]);
    }

    #[test]
    fn only_the_plugin_that_is_left_out_is_left_out() {
        let mut running = Running::default();
        assert!(!running.skips(0));
        running.skip(2);
        assert!(running.skips(2) && running.skips_bodies(2) && !running.skips(1) && !running.skips(3));
        running.begin_plugin(4);
        running.leave_bodies();
        assert!(running.skips_bodies(4) && !running.skips(4) && !running.skips_bodies(3));
    }

    #[test]
    fn a_condition_is_judged_once_wherever_its_plugin_stands() {
        let mut running = Running::default();
        for position in [0, 63, 64, 200] {
            assert!(!running.is_judged(position));
            running.judge(position);
            assert!(
                running.is_judged(position) && !running.is_judged(position + 1) && !running.skips(position)
            );
        }
    }

    #[test]
    fn what_is_handed_over_is_the_same_elsewhere_and_gone_here() {
        let (mut here, mut there) = (Running::default(), Running::default());
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
        let mut running = Running::default();
        running.begin_plugin(3);
        *running.state::<u32>() = 7;
        running.begin_plugin(0);
        assert_eq!(*running.state::<u32>(), 0);
        running.begin_plugin(3);
        assert_eq!(*running.state::<u32>(), 7);
    }
}
