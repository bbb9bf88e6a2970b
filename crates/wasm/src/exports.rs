//! The callbacks that a module exports. All are optional, but one with another signature is an error.

use crate::host::Host;
use crate::module::{Abi, CompiledModule};
use wasmtime::{Store, TypedFunc};

/// An export that may be missing.
pub(crate) type Export<P, R = i32> = Option<TypedFunc<P, R>>;

/// The callbacks of one instance.
pub(crate) struct Exports {
    pub(crate) context_create: Export<(i32, i32), ()>,
    pub(crate) vm_start: Export<(i32, i32)>,
    pub(crate) configure: Export<(i32, i32)>,
    pub(crate) tick: Export<i32, ()>,
    pub(crate) done: Export<i32>,
    pub(crate) log: Export<i32, ()>,
    pub(crate) delete: Export<i32, ()>,
    pub(crate) request_headers: Export<(i32, i32, i32)>,
    pub(crate) request_headers_0_1: Export<(i32, i32)>,
    pub(crate) request_body: Export<(i32, i32, i32)>,
    pub(crate) response_headers: Export<(i32, i32, i32)>,
    pub(crate) response_headers_0_1: Export<(i32, i32)>,
    pub(crate) response_body: Export<(i32, i32, i32)>,
    pub(crate) call_response: Export<(i32, i32, i32, i32, i32), ()>,
    pub(crate) new_connection: Export<i32>,
    pub(crate) downstream_data: Export<(i32, i32, i32)>,
    pub(crate) upstream_data: Export<(i32, i32, i32)>,
    pub(crate) downstream_close: Export<(i32, i32), ()>,
    pub(crate) upstream_close: Export<(i32, i32), ()>,
}

impl Exports {
    pub(crate) fn of(
        store: &mut Store<Host>,
        instance: &wasmtime::Instance,
        program: &CompiledModule,
    ) -> wasmtime::Result<Self> {
        macro_rules! export {
            ($name:literal) => {
                if program.has($name) { Some(instance.get_typed_func(&mut *store, $name)?) } else { None }
            };
        }
        let (mut request, mut response, mut old_request, mut old_response) = (None, None, None, None);
        match program.abi() {
            Abi::V0_1 => {
                old_request = export!("proxy_on_request_headers");
                old_response = export!("proxy_on_response_headers");
            }
            Abi::V0_2 => {
                request = export!("proxy_on_request_headers");
                response = export!("proxy_on_response_headers");
            }
        }
        Ok(Self {
            context_create: export!("proxy_on_context_create"),
            vm_start: export!("proxy_on_vm_start"),
            configure: export!("proxy_on_configure"),
            tick: export!("proxy_on_tick"),
            done: export!("proxy_on_done"),
            log: export!("proxy_on_log"),
            delete: export!("proxy_on_delete"),
            request_headers: request,
            request_headers_0_1: old_request,
            request_body: export!("proxy_on_request_body"),
            response_headers: response,
            response_headers_0_1: old_response,
            response_body: export!("proxy_on_response_body"),
            call_response: export!("proxy_on_http_call_response"),
            new_connection: export!("proxy_on_new_connection"),
            downstream_data: export!("proxy_on_downstream_data"),
            upstream_data: export!("proxy_on_upstream_data"),
            downstream_close: export!("proxy_on_downstream_connection_close"),
            upstream_close: export!("proxy_on_upstream_connection_close"),
        })
    }
}
