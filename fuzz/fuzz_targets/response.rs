//! Any bytes of a backend in any split: nothing panics, every split gives the same response, and what is forwarded is
//! that response as one valid message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moongate::proxy::response_invariants::{Asked, check};

fuzz_target!(|input: (u8, [u8; 4], &[u8])| {
    let (options, sizes, bytes) = input;
    check(Asked { is_head: options & 1 != 0, is_http_1_0: options & 2 != 0 }, bytes, &sizes);
});
