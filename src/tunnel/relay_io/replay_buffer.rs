//! Replay buffer of failover: the part of the client's stream to send again to another backend, from the
//! start of the first message not completely written. The bytes are in the write buffer's backlog. This type
//! tracks message boundaries in it, and frames of the gateway.

use crate::tunnel::state::ReplayState;
use crate::websocket::frame::{Event, Opcode};

/// The state of the backlog to a backend with failover.
#[derive(Debug)]
pub(in crate::tunnel) struct ReplayBuffer {
    /// The maximum size of written bytes kept, and of bytes received without a backend.
    bound: usize,
    /// Message boundaries in the backlog, ascending.
    places: Vec<usize>,
    /// The gateway's own frames in the backlog, which are not replayed.
    own: Vec<(usize, usize)>,
    /// Message boundaries in the bytes parsed last.
    fresh: Vec<usize>,
    /// A message is incomplete after the bytes parsed last.
    open: bool,
    /// The current message exceeds the bound, and its start was discarded.
    lost: bool,
    /// No backend is connected: new bytes wait for one.
    away: bool,
}

impl ReplayBuffer {
    pub(in crate::tunnel) fn new(bound: usize) -> Box<Self> {
        Box::new(Self {
            bound,
            places: Vec::new(),
            own: Vec::new(),
            fresh: Vec::new(),
            open: false,
            lost: false,
            away: false,
        })
    }

    /// The state for another process; `None` without a backend.
    pub(in crate::tunnel) fn state(&self, written: usize) -> Option<ReplayState> {
        (!self.away).then(|| ReplayState {
            written,
            places: self.places.clone(),
            own: self.own.clone(),
            open: self.open,
            lost: self.lost,
        })
    }

    /// Continues with the valid state of another process.
    pub(in crate::tunnel) fn resume(&mut self, state: ReplayState) {
        let ReplayState { places, own, open, lost, .. } = state;
        *self = Self { places, own, open, lost, fresh: Vec::new(), bound: self.bound, away: false };
    }

    pub(in crate::tunnel) fn is_away(&self) -> bool {
        self.away
    }

    pub(in crate::tunnel) fn set_away(&mut self, away: bool) {
        self.away = away;
    }

    /// The remaining capacity while no backend reads.
    pub(in crate::tunnel) fn room(&self, backlog: &[u8]) -> usize {
        self.bound.saturating_sub(backlog.len())
    }

    /// Starts another chunk.
    pub(in crate::tunnel) fn begin(&mut self) {
        self.fresh.clear();
    }

    /// Records an event of the frame parser.
    pub(in crate::tunnel) fn note(&mut self, event: Event<'_>) {
        let is_data = |opcode| matches!(opcode, Opcode::Text | Opcode::Binary | Opcode::Continuation);
        match event {
            Event::FrameStart { opcode, .. } if is_data(opcode) => self.open = true,
            Event::FrameEnd { opcode, fin, at } => {
                self.open &= !(fin && is_data(opcode));
                if !self.open {
                    self.fresh.push(at);
                }
            }
            _ => {}
        }
    }

    /// Appends `bytes`, which start at `at` in the parsed chunk, to the backlog.
    pub(in crate::tunnel) fn enter(&mut self, backlog: &mut Vec<u8>, bytes: &[u8], at: usize) {
        let base = backlog.len();
        let within = self.fresh.iter().filter(|place| **place > at && **place <= at + bytes.len());
        self.places.extend(within.map(|place| base + place - at));
        backlog.extend_from_slice(bytes);
    }

    /// Appends a frame of the gateway to the backlog, between two frames.
    pub(in crate::tunnel) fn enter_own(&mut self, backlog: &mut Vec<u8>, frame: &[u8]) {
        let start = backlog.len();
        let end = start + frame.len();
        let between = self.places.last().map_or(start == 0 && !self.lost, |last| *last == start);
        self.own.push((start, end));
        if between {
            // Otherwise the pings of an idle day would be kept until the next message.
            self.places.push(end);
        }
        backlog.extend_from_slice(frame);
    }

    /// Records `bytes` that were written at once, after everything else.
    pub(in crate::tunnel) fn passed(&mut self, backlog: &mut Vec<u8>, written: &mut usize, bytes: &[u8]) {
        match self.fresh.last().copied() {
            Some(last) => {
                self.forget(backlog);
                self.lost = false;
                backlog.extend_from_slice(&bytes[last..]);
            }
            None if self.lost => {}
            None => backlog.extend_from_slice(bytes),
        }
        *written = backlog.len();
        self.trim(backlog, written);
    }

    /// Discards completely written messages, and the start of a message above the bound.
    pub(in crate::tunnel) fn trim(&mut self, backlog: &mut Vec<u8>, written: &mut usize) {
        if let Some(place) = self.last_place(*written) {
            self.lost = false;
            *written -= place;
            self.cut(backlog, place);
        }
        if *written == backlog.len() && (self.lost || *written > self.bound) {
            self.lost |= *written > 0;
            self.forget(backlog);
            *written = 0;
        }
    }

    /// Reduces the backlog to the bytes to replay; `false` if their start was discarded.
    pub(in crate::tunnel) fn rewind(&mut self, backlog: &mut Vec<u8>, written: usize) -> bool {
        match self.last_place(written) {
            Some(place) => self.cut(backlog, place),
            None if self.lost => return false,
            None => {}
        }
        self.lost = false;
        for (start, end) in std::mem::take(&mut self.own).into_iter().rev() {
            backlog.drain(start..end);
            self.places.retain(|place| *place <= start || *place > end);
            self.places.iter_mut().filter(|place| **place > end).for_each(|place| *place -= end - start);
        }
        true
    }

    fn last_place(&self, written: usize) -> Option<usize> {
        let behind = self.places.partition_point(|place| *place <= written);
        self.places[..behind].last().copied()
    }

    /// Discards everything before `place`.
    fn cut(&mut self, backlog: &mut Vec<u8>, place: usize) {
        if place == backlog.len() {
            return self.forget(backlog);
        }
        backlog.drain(..place);
        self.places.retain(|known| *known > place);
        self.places.iter_mut().for_each(|known| *known -= place);
        self.own.retain(|(start, _)| *start >= place);
        self.own.iter_mut().for_each(|own| *own = (own.0 - place, own.1 - place));
    }

    /// Discards everything and frees the memory: most tunnels are idle most of the time.
    fn forget(&mut self, backlog: &mut Vec<u8>) {
        *backlog = Vec::new();
        self.places = Vec::new();
        self.own = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::frame::{FrameParser, Rules, Sender};

    /// Parses `chunk` as a direction does.
    fn follow(kept: &mut ReplayBuffer, follower: &mut FrameParser, chunk: &[u8]) {
        kept.begin();
        assert_eq!(follower.feed(chunk, &Rules::default(), &mut |event| kept.note(event)), Ok(()));
    }

    /// A frame with masking key zero.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    }

    /// The bytes to replay after `written` bytes of `frames` and of a ping at index `ping`, in this process or another.
    fn left(frames: &[Vec<u8>], ping: usize, written: usize) -> Vec<u8> {
        let (mut kept, mut follower, mut backlog) =
            (ReplayBuffer::new(1000), FrameParser::new(Sender::Client), Vec::new());
        for (at, frame) in frames.iter().enumerate() {
            follow(&mut kept, &mut follower, frame);
            kept.enter(&mut backlog, frame, 0);
            if at == ping {
                kept.enter_own(&mut backlog, b"ping");
            }
        }
        let (mut moved, mut moved_backlog) = (ReplayBuffer::new(1000), backlog.clone());
        let state = serde_json::to_string(&kept.state(written)).unwrap_or_default();
        moved.resume(serde_json::from_str(&state).unwrap_or_default());
        assert!(kept.rewind(&mut backlog, written));
        assert!(moved.rewind(&mut moved_backlog, written));
        assert_eq!(backlog, moved_backlog);
        backlog
    }

    #[test]
    fn an_incomplete_message_is_replayed_from_its_first_frame_and_a_written_one_is_not() {
        let frames = [frame(0x81, b"one"), frame(0x01, b"tw"), frame(0x89, b"?"), frame(0x80, b"o")];
        let all = frames.concat();
        for written in 0..=all.len() {
            let expected = match written {
                0..9 => &all[..],
                9..31 => &all[9..],
                _ => &[],
            };
            assert_eq!(left(&frames, usize::MAX, written), expected, "{written}");
        }
    }

    #[test]
    fn the_gateways_own_frames_are_not_replayed() {
        let frames = [frame(0x81, b"one"), frame(0x01, b"tw"), frame(0x80, b"o")];
        let all = frames.concat();
        for written in 0..9 {
            assert_eq!(left(&frames, 0, written), all, "between messages, {written}");
            assert_eq!(left(&frames, 1, written), all, "inside a message, {written}");
        }
        for written in 9..24 {
            assert_eq!(left(&frames, 0, written), all[9..], "{written}");
            assert_eq!(left(&frames, 1, written), all[9..], "{written}");
        }
    }

    #[test]
    fn pings_of_an_idle_day_are_not_kept() {
        let (mut kept, mut backlog, mut written) = (ReplayBuffer::new(1000), Vec::new(), 0);
        for _ in 0..3000 {
            kept.enter_own(&mut backlog, b"a ping to the backend");
            written = backlog.len();
            kept.trim(&mut backlog, &mut written);
            assert_eq!((backlog.len(), written), (0, 0));
        }
        assert!(kept.rewind(&mut backlog, written));
    }

    #[test]
    fn a_message_above_the_bound_cannot_be_replayed_until_it_is_written() {
        let (mut kept, mut follower) = (ReplayBuffer::new(100), FrameParser::new(Sender::Client));
        let (mut backlog, mut written) = (Vec::new(), 0);
        let long = frame(0x02, &[7; 120]);
        follow(&mut kept, &mut follower, &long);
        kept.passed(&mut backlog, &mut written, &long);
        assert_eq!((backlog.len(), written), (0, 0));
        assert!(!kept.rewind(&mut backlog, written));
        let rest = [frame(0x80, b"end"), frame(0x81, b"next")].concat();
        follow(&mut kept, &mut follower, &rest[..12]);
        kept.passed(&mut backlog, &mut written, &rest[..12]);
        assert_eq!((&backlog[..], written), (&rest[9..12], 3));
        assert!(kept.rewind(&mut backlog, written));
    }
}
