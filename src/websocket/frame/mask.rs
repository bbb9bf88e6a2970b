//! Masking (§5.3): the keys of the gateway's own frames, and the operation itself.

use crate::websocket::random::random_bytes;

/// Whether a frame is masked. To a backend the gateway is a client, and masks (§5.1); to a client it is a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// As a server sends.
    Off,
    /// As a client sends, with a key that is fresh for this frame and cannot be guessed (§5.3).
    With([u8; 4]),
}

impl Mask {
    /// With a new key.
    #[must_use]
    pub fn fresh() -> Self {
        Self::With(random_bytes())
    }
}

/// Masks or unmasks (§5.3): the operation is its own inverse. For a payload in pieces, the key of a later piece is
/// turned by what was before it.
pub fn apply_mask(payload: &mut [u8], key: [u8; 4]) {
    // A block as wide as the widest registers in common use: the compiler makes one instruction of the inner loop.
    const BLOCK: usize = 32;
    let wide: [u8; BLOCK] = std::array::from_fn(|at| key[at & 3]);
    let (blocks, rest) = payload.as_chunks_mut::<BLOCK>();
    for block in blocks {
        block.iter_mut().zip(wide).for_each(|(byte, key)| *byte ^= key);
    }
    rest.iter_mut().zip(wide).for_each(|(byte, key)| *byte ^= key);
}
