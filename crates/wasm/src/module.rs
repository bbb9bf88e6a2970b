//! A checked module: read, compared with its hash, compiled, and linked.
//!
//! A compiled module is shared by every entry and every generation of the configuration that uses it, and dropped
//! with the last.

use crate::abi;
use crate::engine::{self, Allocation};
use crate::host::Host;
use moongate_config::{Placed, Problem};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Weak};
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, UnknownImportError};

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Hash([u8; 32]);

/// The ABI version of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    /// 0.1.0: header callbacks have no end-of-stream flag.
    V0_1,
    /// 0.2.0 and 0.2.1.
    V0_2,
}

/// A compiled module.
pub(crate) struct CompiledModule {
    hash: Hash,
    abi: Abi,
    module: Module,
    ready: InstancePre<Host>,
}

type Cache = Mutex<HashMap<(Hash, Allocation), Weak<CompiledModule>>>;
static COMPILED: LazyLock<Cache> = LazyLock::new(Cache::default);

impl CompiledModule {
    /// The module in `bytes`, compiled unless it is in use already. Compiling takes up to seconds for large
    /// modules.
    ///
    /// # Errors
    /// The hash differs, or the module does not compile or is not a proxy-wasm filter.
    pub(crate) fn load(
        bytes: &[u8],
        expected: Option<&Placed<String>>,
        allocation: Allocation,
    ) -> Result<Arc<Self>, Problem> {
        let hash = Hash(Sha256::digest(bytes).into());
        if let Some(expected) = expected
            && !expected.value.eq_ignore_ascii_case(&hash.to_string())
        {
            return Err(Problem::new("the module's SHA-256 does not match")
                .help(format!("it has {hash}"))
                .at(&expected.place));
        }
        let key = (hash, allocation);
        if let Some(known) = COMPILED.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let engine = engine::engine(allocation)
            .map_err(|error| Problem::new(format!("this machine cannot run WebAssembly: {error}")))?;
        let program = Arc::new(Self::compile(engine, bytes, hash)?);
        let mut compiled = COMPILED.lock();
        compiled.retain(|_, known| known.strong_count() > 0);
        compiled.insert(key, Arc::downgrade(&program));
        Ok(program)
    }

    fn compile(engine: &Engine, bytes: &[u8], hash: Hash) -> Result<Self, Problem> {
        let module = Module::from_binary(engine, bytes).map_err(|error| {
            Problem::new(format!("the module does not compile: {}", first_line(&error)))
                .help("expected a WebAssembly module in binary format")
        })?;
        let abi = abi(&module)?;
        whole(&module)?;
        let ready = link(engine, &module)?;
        Ok(Self { hash, abi, module, ready })
    }

    pub(crate) fn hash(&self) -> Hash {
        self.hash
    }

    pub(crate) fn abi(&self) -> Abi {
        self.abi
    }

    /// The linked module.
    pub(crate) fn ready(&self) -> &InstancePre<Host> {
        &self.ready
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.module.engine()
    }

    /// Whether it exports a function of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        matches!(self.module.get_export(name), Some(ExternType::Func(_)))
    }
}

/// The ABI version, from the function that marks it.
fn abi(module: &Module) -> Result<Abi, Problem> {
    let marked = |name| matches!(module.get_export(name), Some(ExternType::Func(_)));
    if marked("proxy_abi_version_0_2_1") || marked("proxy_abi_version_0_2_0") {
        return Ok(Abi::V0_2);
    }
    if marked("proxy_abi_version_0_1_0") {
        return Ok(Abi::V0_1);
    }
    let other =
        module.exports().map(|export| export.name()).find(|name| name.starts_with("proxy_abi_version_"));
    Err(match other {
        Some(other) => Problem::new(format!("the module is for `{other}`, which is not supported")),
        None => Problem::new("the module is not a proxy-wasm filter: it exports no `proxy_abi_version_…`"),
    }
    .help("supported versions: 0.1.0, 0.2.0 and 0.2.1"))
}

/// Checks for the exports that every filter needs.
fn whole(module: &Module) -> Result<(), Problem> {
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
        return Err(Problem::new("the module exports no `memory`"));
    }
    let allocates = ["proxy_on_memory_allocate", "malloc"]
        .into_iter()
        .any(|name| matches!(module.get_export(name), Some(ExternType::Func(_))));
    if !allocates {
        return Err(Problem::new("the module exports neither `proxy_on_memory_allocate` nor `malloc`")
            .help("the gateway asks it for memory to put headers and bodies into"));
    }
    Ok(())
}

fn link(engine: &Engine, module: &Module) -> Result<InstancePre<Host>, Problem> {
    let mut linker = Linker::new(engine);
    abi::define(&mut linker, module).map_err(|error| misfit(&error))?;
    linker.instantiate_pre(module).map_err(|error| misfit(&error))
}

fn misfit(error: &wasmtime::Error) -> Problem {
    match error.downcast_ref::<UnknownImportError>() {
        Some(unknown) => Problem::new(format!(
            "the module imports `{}.{}`, which is not supported",
            unknown.module(),
            unknown.name()
        ))
        .help("docs/reference/wasm.md lists what a filter may call"),
        None => Problem::new(format!("the module cannot be linked: {}", first_line(error))),
    }
}

/// An error of the runtime on one line.
pub(crate) fn first_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
