//! Any bytes from a client: each request that is accepted is forwarded as one valid message with the meaning that was
//! matched, whatever the split of the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moongate::proxy::forwarding_invariants::check;

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    check(bytes, usize::from(step));
});
