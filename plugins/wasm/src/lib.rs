//! Filters compiled to WebAssembly (proxy-wasm 0.2.1): a plugin kind like any other.
