//! Any bytes as an nginx configuration: reading and translation end and never panic, and the result is YAML that our
//! reader can parse.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moongate::config::load_text;
use moongate_import::{Files, import_nginx_text};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Ok(imported) = import_nginx_text("nginx.conf", &text, &mut Files::default()) else { return };
    // Values that the gateway rejects are errors of the configuration, not of the syntax.
    if let Err(refused) = load_text("imported.yaml", &imported.yaml, &|_| None) {
        let is_syntax = |problem: &moongate_config::Problem| problem.message.contains("YAML");
        assert!(!refused.problems.0.iter().any(is_syntax), "{}", imported.yaml);
    }
});
