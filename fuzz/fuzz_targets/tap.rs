//! Any bytes from a client of a tapped WebSocket: the same messages in every split, each with a bounded excerpt.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moongate::tunnel::reader_invariants::check;

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    check(bytes, usize::from(step));
});
