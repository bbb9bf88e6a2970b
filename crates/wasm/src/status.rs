//! Results of host functions: statuses for the module, and traps.

/// The status that a host function returns; the numbers are proxy-wasm's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    ParseFailure = 4,
    InvalidMemoryAccess = 6,
    CasMismatch = 8,
    InternalFailure = 10,
    Unimplemented = 12,
}

/// The reason why a host function returns early.
pub(crate) enum Stop {
    /// The module gets a status.
    Status(Status),
    /// The module traps.
    Trap(wasmtime::Error),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The result of a host function.
pub(crate) type HostResult = Result<(), Stop>;

/// Converts the result for wasmtime.
pub(crate) fn end(result: HostResult) -> wasmtime::Result<i32> {
    match result {
        Ok(()) => Ok(Status::Ok as i32),
        Err(Stop::Status(status)) => Ok(status as i32),
        Err(Stop::Trap(error)) => Err(error),
    }
}
