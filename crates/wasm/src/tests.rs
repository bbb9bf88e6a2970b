//! Tests of the host, with filters in WebAssembly's text format.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod calling;
mod misbehaving;
mod requests;
mod sockets;
mod starting;
mod toolchains;

use crate::KIND;
use moongate_config::Problems;
use moongate_sdk::Plugin;
use moongate_sdk::testing::settings;
use serde_json::{Value, json};
use std::fs;

/// The common part of every filter here: ABI markers, memory, a ring allocator, and imports.
pub(crate) const PRELUDE: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_header_map_pairs" (func $set_pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_size" (func $map_size (param i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick_every (param i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $queue (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 32768))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $n i32) (result i32)
    (local $at i32)
    (if (i32.gt_u (i32.add (global.get $free) (local.get $n)) (i32.const 130000))
      (then (global.set $free (i32.const 32768))))
    (local.set $at (global.get $free))
    (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get $n)) (i32.const 7)) (i32.const -8)))
    (local.get $at))
"#;

/// A filter of the prelude and `body`.
pub(crate) fn wasm(body: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {PRELUDE} {body})")).unwrap()
}

/// A plugin of a module, with additional settings.
pub(crate) fn load(bytes: &[u8], more: Value) -> Result<Box<dyn Plugin>, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.wasm");
    fs::write(&path, bytes).unwrap();
    let mut written = json!({ "module": path.to_str().unwrap() });
    let Value::Object(more) = more else { panic!("more settings are a mapping") };
    written.as_object_mut().unwrap().extend(more);
    (KIND.build)(&settings(written))
}

/// A plugin of the prelude and `body`, without additional settings.
pub(crate) fn plugin(body: &str) -> Box<dyn Plugin> {
    plugin_with(body, json!({}))
}

/// The same with additional settings.
pub(crate) fn plugin_with(body: &str, more: Value) -> Box<dyn Plugin> {
    load(&wasm(body), more).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The problem with a module.
pub(crate) fn refusal(bytes: &[u8], more: Value) -> String {
    let problems = load(bytes, more).err().expect("the module should be refused");
    problems.0[0].message.clone()
}
