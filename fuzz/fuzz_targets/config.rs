//! Any bytes as a configuration: parsing ends and never panics, and its output can be parsed again. A text includes
//! no files.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moongate::config::{load_text, print};
use moongate::diagnostics::{Color, render};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    match load_text("fuzz.yaml", &text, &|_| None) {
        Ok(loaded) => {
            let printed = print(&loaded.spec);
            let again = load_text("printed.yaml", &printed, &|_| None);
            assert!(again.is_ok_and(|again| again.spec == loaded.spec), "{printed}");
        }
        Err(refused) => assert!(!render(&refused.problems, &refused.sources, Color::Never).is_empty()),
    }
});
