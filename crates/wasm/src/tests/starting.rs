//! Rejected and accepted modules at configuration load.

use super::{PRELUDE, load, plugin, refusal, wasm};
use moongate_sdk::Phases;
use serde_json::json;

const EMPTY: &str =
    "(func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32) (i32.const 0))";

#[test]
fn a_module_that_is_not_a_filter_is_rejected_with_a_reason() {
    let text = |text: &str| wat::parse_str(text).unwrap();
    let cases = [
        (b"not wasm".to_vec(), "the module does not compile: "),
        (text("(module)"), "the module is not a proxy-wasm filter"),
        (
            text("(module (func (export \"proxy_abi_version_0_3_0\")))"),
            "the module is for `proxy_abi_version_0_3_0`",
        ),
        (text("(module (func (export \"proxy_abi_version_0_2_0\")))"), "the module exports no `memory`"),
        (
            text("(module (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_0\")))"),
            "the module exports neither `proxy_on_memory_allocate` nor `malloc`",
        ),
        (wasm(""), "the module does nothing with requests"),
        (
            text(&format!("(module (import \"env\" \"proxy_teleport\" (func)) {PRELUDE} {EMPTY})")),
            "the module imports `env.proxy_teleport`, which is not supported",
        ),
        (
            text(&format!("(module (import \"env\" \"proxy_done\" (func (param i64))) {PRELUDE} {EMPTY})")),
            "the module cannot be linked: ",
        ),
        (
            wasm("(func (export \"proxy_on_request_headers\") (param i64) (result i32) (i32.const 0))"),
            "the module does not start: ",
        ),
        (
            wasm(&format!("{EMPTY} (func (export \"_initialize\") unreachable)")),
            "the module does not start: the filter trapped: wasm trap: wasm `unreachable` instruction executed",
        ),
        (
            wasm(&format!(
                "{EMPTY} (func (export \"proxy_on_configure\") (param i32 i32) (result i32) (i32.const 0))"
            )),
            "the module does not start: `proxy_on_configure` returned false",
        ),
        (
            wasm(&format!(
                "{EMPTY} (func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) (i32.const 0))"
            )),
            "the module does not start: `proxy_on_vm_start` returned false",
        ),
    ];
    for (bytes, expected) in cases {
        let message = refusal(&bytes, json!({}));
        assert!(message.starts_with(expected), "{message:?} is not {expected:?}");
    }
}

#[test]
fn a_start_that_never_ends_is_ended() {
    let module = wasm(&format!("{EMPTY} (func (export \"_start\") (loop (br 0)))"));
    let text = refusal(&module, json!({}));
    assert!(text.contains("exceeded `limits.cpu`"), "{text}");
}

#[test]
fn a_module_with_another_hash_is_refused() {
    let module = wasm(EMPTY);
    assert_eq!(refusal(&module, json!({ "sha256": "00" })), "the module's SHA-256 does not match");
}

#[test]
fn limits_out_of_range_and_unknown_settings_are_refused() {
    let module = wasm(EMPTY);
    for more in [
        json!({ "limits": { "cpu": "5s" } }),
        json!({ "limits": { "cpu": "1ms" } }),
        json!({ "limits": { "memory": "1KiB" } }),
        json!({ "limits": { "memory": "1GiB" }, "isolation": "request" }),
        json!({ "limit": {} }),
        json!({ "isolation": "none" }),
    ] {
        assert!(load(&module, more.clone()).is_err(), "{more}");
    }
}

#[test]
fn the_exports_of_a_module_select_its_phases() {
    let phases = plugin(EMPTY).phases();
    assert_eq!(phases, Phases { request_headers: true, waits: true, ..Phases::default() });
    let both = format!("{EMPTY} (func (export \"proxy_on_log\") (param i32))");
    let expected = Phases { request_headers: true, log: true, waits: true, ..Phases::default() };
    assert_eq!(plugin(&both).phases(), expected);
}

#[test]
fn a_module_of_the_first_version_gets_its_headers_without_the_flag() {
    let module = PRELUDE.replace("0_2_1", "0_1_0");
    let module = wat::parse_str(format!(
        "(module {module} (func (export \"proxy_on_request_headers\") (param i32 i32) (result i32) (i32.const 0)))"
    ));
    assert!(load(&module.unwrap(), json!({})).unwrap().phases().request_headers);
}

#[test]
fn the_toolchains_standard_libraries_start() {
    // Under both names; unsupported functions are defined too, and return an error.
    for name in ["wasi_snapshot_preview1", "wasi_unstable"] {
        let imports = format!(
            r#"(import "{name}" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
               (import "{name}" "clock_time_get" (func $c (param i32 i64 i32) (result i32)))
               (import "{name}" "random_get" (func $r (param i32 i32) (result i32)))
               (import "{name}" "environ_sizes_get" (func $e (param i32 i32) (result i32)))
               (import "{name}" "poll_oneoff" (func $p (param i32 i32 i32 i32) (result i32)))
               (import "{name}" "proc_exit" (func (param i32)))"#
        );
        let start = r#"(func (export "_initialize")
            (if (call $c (i32.const 1) (i64.const 0) (i32.const 16)) (then unreachable))
            (if (i64.eqz (i64.load (i32.const 16))) (then unreachable))
            (if (call $r (i32.const 16) (i32.const 64)) (then unreachable))
            (if (i32.ne (call $r (i32.const -8) (i32.const 64)) (i32.const 21)) (then unreachable))
            (if (call $e (i32.const 16) (i32.const 20)) (then unreachable))
            (i32.store (i32.const 32) (i32.const 100))
            (i32.store (i32.const 36) (i32.const 3))
            (if (call $w (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)) (then unreachable))
            (if (i32.ne (i32.load (i32.const 40)) (i32.const 3)) (then unreachable))
            (if (i32.ne (call $w (i32.const 9) (i32.const 32) (i32.const 1) (i32.const 40)) (i32.const 8))
              (then unreachable))
            (if (i32.ne (call $p (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 52))
              (then unreachable)))"#;
        let module = wat::parse_str(format!("(module {imports} {PRELUDE} {EMPTY} {start})")).unwrap();
        load(&module, json!({})).unwrap_or_else(|problems| panic!("{problems:?}"));
    }
}

#[test]
fn the_configuration_arrives_as_written() {
    // Accepts only a configuration of that length and first byte.
    let takes = |length: usize, first: u8| {
        wasm(&format!(
            r#"{EMPTY} (func (export "proxy_on_configure") (param i32 i32) (result i32)
                (drop (call $buffer (i32.const 7) (i32.const 0) (local.get 1) (i32.const 16) (i32.const 20)))
                (i32.and (i32.eq (local.get 1) (i32.const {length}))
                  (i32.eq (i32.load8_u (i32.load (i32.const 16))) (i32.const {first}))))"#
        ))
    };
    load(&takes(5, b'h'), json!({ "config": "hello" })).map(drop).unwrap();
    load(&takes(13, b'{'), json!({ "config": { "a": [1, "b"] } })).map(drop).unwrap();
    load(&takes(0, 0), json!({})).map(drop).unwrap();
}
