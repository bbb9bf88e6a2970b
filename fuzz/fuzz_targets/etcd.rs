//! Any bytes from a watch of etcd: the same objects in every split, each with a bounded length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moongate::etcd::json_object_invariants;

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    json_object_invariants(bytes, usize::from(step));
});
