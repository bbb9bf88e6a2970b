//! The status that a call of the host returns to the module, as proxy-wasm numbers it.

/// What a call of the host answers; the numbers are proxy-wasm's.
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

/// Why a call of the host ends early.
pub(crate) enum Stop {
    /// The module reads a status.
    Status(Status),
    /// The module is at its end.
    Trap(wasmtime::Error),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// How a call of the host ends.
pub(crate) type Done = Result<(), Stop>;

/// What wasmtime hands back to the module.
pub(crate) fn end(done: Done) -> wasmtime::Result<i32> {
    match done {
        Ok(()) => Ok(Status::Ok as i32),
        Err(Stop::Status(status)) => Ok(status as i32),
        Err(Stop::Trap(error)) => Err(error),
    }
}
