//! Buffers and timer that relays share, of WebSockets and of other protocols.

mod read_buffer;
mod replay_buffer;
mod timer;
mod write_buffer;

#[cfg(test)]
pub(super) use read_buffer::SCRATCH;
pub(super) use read_buffer::lend;
pub(super) use replay_buffer::ReplayBuffer;
pub(super) use timer::Timer;
pub(super) use write_buffer::WriteBuffer;
