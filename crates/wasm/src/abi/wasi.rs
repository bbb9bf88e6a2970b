//! The part of WASI that the toolchains' standard libraries need: clocks, randomness, standard output as log lines,
//! and empty arguments and environment. Other functions are defined and return "no such function".

use super::time::now;
use crate::host::Host;
use crate::memory::{Call, bytes, put, put_u32, split};
use crate::status::{HostResult, Status, Stop};
use std::sync::LazyLock;
use std::time::Instant;
use wasmtime::{ExternType, Linker, Module, Val, ValType};

/// Error numbers of WASI.
const SUCCESS: i32 = 0;
const BAD_DESCRIPTOR: i32 = 8;
const FAULT: i32 = 21;
const NO_SUCH_FUNCTION: i32 = 52;

/// The longest log line that a module may write piece by piece.
const LINE: usize = 4096;

/// The maximum number of bytes of a write or of randomness in one call.
const AT_ONCE: usize = 64 << 10;

/// Both names of the import module.
const NAMES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

pub(super) fn define(linker: &mut Linker<Host>, module: &Module) -> wasmtime::Result<()> {
    for name in NAMES {
        linker.func_wrap(
            name,
            "fd_write",
            |mut call: Call<'_>, fd: i32, at: i32, count: i32, ret: i32| match fd {
                1 | 2 => code(write(&mut call, fd, at, count, ret)),
                _ => Ok(BAD_DESCRIPTOR),
            },
        )?;
        linker.func_wrap(name, "clock_time_get", |mut call: Call<'_>, clock: i32, _: i64, at: i32| {
            let time = if clock == 0 { now() } else { running() };
            code(put(&mut call, at, &time.to_le_bytes()))
        })?;
        linker.func_wrap(name, "random_get", |mut call: Call<'_>, at: i32, length: i32| {
            code(random(&mut call, at, length))
        })?;
        for sizes in ["environ_sizes_get", "args_sizes_get"] {
            linker.func_wrap(name, sizes, |mut call: Call<'_>, count: i32, size: i32| {
                code(put_u32(&mut call, count, 0).and_then(|()| put_u32(&mut call, size, 0)))
            })?;
        }
        for list in ["environ_get", "args_get"] {
            linker.func_wrap(name, list, |_: Call<'_>, _: i32, _: i32| -> i32 { SUCCESS })?;
        }
        linker.func_wrap(name, "proc_exit", |_: Call<'_>, code: i32| -> wasmtime::Result<()> {
            Err(wasmtime::Error::msg(format!("the module exited with code {code}")))
        })?;
        absent(linker, module, name)?;
    }
    linker.func_wrap("env", "emscripten_notify_memory_growth", |_: Call<'_>, _: i32| {})?;
    // AssemblyScript imports it by default.
    linker.func_wrap(
        "env",
        "abort",
        |_: Call<'_>, _: i32, _: i32, _: i32, _: i32| -> wasmtime::Result<()> {
            Err(wasmtime::Error::msg("the module aborted"))
        },
    )?;
    Ok(())
}

/// All other functions that this module imports from WASI.
fn absent(linker: &mut Linker<Host>, module: &Module, name: &str) -> wasmtime::Result<()> {
    const KNOWN: [&str; 8] = [
        "fd_write",
        "clock_time_get",
        "random_get",
        "environ_sizes_get",
        "args_sizes_get",
        "environ_get",
        "args_get",
        "proc_exit",
    ];
    for import in module.imports().filter(|import| import.module() == name && !KNOWN.contains(&import.name()))
    {
        let ExternType::Func(kind) = import.ty() else { continue };
        let returns_status =
            kind.results().len() == 1 && kind.results().all(|result| matches!(result, ValType::I32));
        if returns_status || kind.results().len() == 0 {
            linker.func_new(name, import.name(), kind, |_, _, results| {
                results.iter_mut().for_each(|result| *result = Val::I32(NO_SUCH_FUNCTION));
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Nanoseconds on a monotonic clock.
fn running() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn code(done: HostResult) -> wasmtime::Result<i32> {
    match done {
        Ok(()) => Ok(SUCCESS),
        Err(Stop::Status(_)) => Ok(FAULT),
        Err(Stop::Trap(error)) => Err(error),
    }
}

/// Writes to standard output become log lines: the first descriptor at info level, the second at error level.
fn write(call: &mut Call<'_>, fd: i32, at: i32, count: i32, ret: i32) -> HostResult {
    let (memory, host) = split(call)?;
    let (level, which) = if fd == 1 { (log::Level::Info, 0) } else { (log::Level::Error, 1) };
    let mut line = std::mem::take(&mut host.lines[which]);
    let mut written = 0;
    for piece in bytes(memory, at, count.saturating_mul(8))?.chunks_exact(8) {
        let number = |at: usize| i32::from_le_bytes([piece[at], piece[at + 1], piece[at + 2], piece[at + 3]]);
        let text = bytes(memory, number(0), number(4))?;
        // Pieces may overlap, so only this limit bounds their sum. The module writes the remainder again.
        let text = &text[..text.len().min(AT_ONCE - written)];
        written += text.len();
        for byte in text {
            if (*byte == b'\n' || line.len() == LINE) && !line.is_empty() {
                host.log(level, &line);
                line.clear();
            }
            if *byte != b'\n' {
                line.push(*byte);
            }
        }
        if written == AT_ONCE {
            break;
        }
    }
    host.lines[which] = line;
    put_u32(call, ret, u32::try_from(written).unwrap_or(u32::MAX))
}

fn random(call: &mut Call<'_>, at: i32, length: i32) -> HostResult {
    let (memory, _) = split(call)?;
    let (at, length) = (at.cast_unsigned() as usize, length.cast_unsigned() as usize);
    let place = memory.get_mut(at..at + length).filter(|place| place.len() <= AT_ONCE);
    fill(place.ok_or(Status::InvalidMemoryAccess)?)
}

/// From the system: modules derive keys and nonces from it.
fn fill(place: &mut [u8]) -> HostResult {
    getrandom::fill(place).map_err(|_| Stop::Status(Status::InternalFailure))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn randomness_is_random() {
        let (mut one, mut two) = ([0; 32], [0; 32]);
        assert!(fill(&mut one).is_ok() && fill(&mut two).is_ok());
        assert_ne!(one, two);
    }
}
