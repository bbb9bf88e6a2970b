//! Host functions: proxy-wasm 0.2.1, the functions of 0.1.0 that differ, and the part of WASI that the toolchains'
//! standard libraries need to start.

mod bodies;
mod calls;
mod log;
mod maps;
mod metrics;
mod properties;
mod shared_data;
mod streams;
mod time;
mod wasi;

use crate::host::Host;
use crate::memory::Call;
use crate::status::{Status, end};
use wasmtime::{Linker, Module};

/// Defines one function of `env`: its name, parameters and body.
macro_rules! function {
    ($linker:ident, $name:literal, ($($parameter:ident: $type:ty),*), $path:path) => {
        $linker.func_wrap("env", $name, |mut call: Call<'_>, $($parameter: $type),*| {
            end($path(&mut call, $($parameter),*))
        })?;
    };
}

/// Functions that return `Unimplemented`, with the number of their parameters.
macro_rules! absent {
    ($linker:ident, $($name:literal: ($($type:ty),*);)*) => {
        $($linker.func_wrap("env", $name, |_: Call<'_>, $(_: $type),*| -> i32 { Status::Unimplemented as i32 })?;)*
    };
}

/// Defines all functions for a module.
pub(crate) fn define(linker: &mut Linker<Host>, module: &Module) -> wasmtime::Result<()> {
    define_request_functions(linker)?;
    define_environment_functions(linker)?;
    define_absent_functions(linker)?;
    wasi::define(linker, module)
}

fn define_request_functions(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    function!(linker, "proxy_get_header_map_size", (map: i32, size: i32), maps::size);
    function!(linker, "proxy_get_header_map_pairs", (map: i32, at: i32, length: i32), maps::pairs);
    function!(linker, "proxy_set_header_map_pairs", (map: i32, at: i32, length: i32), maps::set_pairs);
    function!(linker, "proxy_get_header_map_value", (map: i32, k: i32, kn: i32, at: i32, length: i32), maps::value);
    function!(linker, "proxy_add_header_map_value", (map: i32, k: i32, kn: i32, v: i32, vn: i32), maps::add);
    function!(linker, "proxy_replace_header_map_value", (map: i32, k: i32, kn: i32, v: i32, vn: i32), maps::replace);
    function!(linker, "proxy_remove_header_map_value", (map: i32, k: i32, kn: i32), maps::remove);
    function!(linker, "proxy_get_buffer_bytes", (b: i32, start: i32, most: i32, at: i32, length: i32), bodies::get);
    function!(linker, "proxy_set_buffer_bytes", (b: i32, start: i32, size: i32, p: i32, n: i32), bodies::set);
    function!(linker, "proxy_get_buffer_status", (b: i32, length: i32, flags: i32), bodies::status);
    function!(linker, "proxy_continue_stream", (kind: i32), streams::resume);
    function!(linker, "proxy_close_stream", (kind: i32), streams::close);
    function!(
        linker,
        "proxy_send_local_response",
        (status: i32, d: i32, dn: i32, b: i32, bn: i32, h: i32, hn: i32, grpc: i32),
        streams::respond
    );
    function!(linker, "proxy_set_effective_context", (id: i32), streams::effective);
    function!(linker, "proxy_done", (), streams::done);
    function!(linker, "proxy_continue_request", (), streams::resume_any);
    function!(linker, "proxy_continue_response", (), streams::resume_any);
    Ok(())
}

fn define_environment_functions(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    function!(linker, "proxy_log", (level: i32, p: i32, n: i32), log::write);
    function!(linker, "proxy_get_log_level", (at: i32), log::level);
    function!(linker, "proxy_get_current_time_nanoseconds", (at: i32), time::current_time);
    function!(linker, "proxy_set_tick_period_milliseconds", (period: i32), time::set_tick_period);
    function!(linker, "proxy_get_property", (p: i32, n: i32, at: i32, length: i32), properties::get);
    function!(linker, "proxy_set_property", (p: i32, n: i32, v: i32, vn: i32), properties::set);
    function!(
        linker,
        "proxy_get_shared_data",
        (k: i32, kn: i32, at: i32, length: i32, cas: i32),
        shared_data::get
    );
    function!(linker, "proxy_set_shared_data", (k: i32, kn: i32, v: i32, vn: i32, cas: i32), shared_data::set);
    function!(linker, "proxy_define_metric", (kind: i32, p: i32, n: i32, at: i32), metrics::define);
    function!(linker, "proxy_record_metric", (id: i32, value: i64), metrics::record);
    function!(linker, "proxy_increment_metric", (id: i32, offset: i64), metrics::increment);
    function!(linker, "proxy_get_metric", (id: i32, at: i32), metrics::get);
    function!(linker, "proxy_get_configuration", (at: i32, length: i32), bodies::configuration);
    function!(
        linker,
        "proxy_call_foreign_function",
        (f: i32, fl: i32, p: i32, n: i32, at: i32, length: i32),
        streams::foreign
    );
    function!(
        linker,
        "proxy_http_call",
        (u: i32, un: i32, h: i32, hn: i32, b: i32, bn: i32, t: i32, tn: i32, timeout: i32, at: i32),
        calls::http
    );
    Ok(())
}

/// Queues and gRPC calls: defined because every SDK imports them, but without effect.
fn define_absent_functions(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    absent! { linker,
        "proxy_register_shared_queue": (i32, i32, i32);
        "proxy_resolve_shared_queue": (i32, i32, i32, i32, i32);
        "proxy_enqueue_shared_queue": (i32, i32, i32);
        "proxy_dequeue_shared_queue": (i32, i32, i32);
        "proxy_grpc_call": (i32, i32, i32, i32, i32, i32, i32, i32, i32, i32, i32, i32);
        "proxy_grpc_stream": (i32, i32, i32, i32, i32, i32, i32, i32, i32);
        "proxy_grpc_send": (i32, i32, i32, i32);
        "proxy_grpc_cancel": (i32);
        "proxy_grpc_close": (i32);
        "proxy_get_status": (i32, i32, i32);
        "proxy_clear_route_cache": ();
    }
    Ok(())
}
