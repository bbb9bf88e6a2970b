//! Access to a module's memory: every pointer and length from the module is checked, and data for the module is
//! stored where its own allocator says.

use crate::host::Host;
use crate::status::{HostResult, Status, Stop};
use wasmtime::Caller;

/// A call from a module.
pub(crate) type Call<'c> = Caller<'c, Host>;

/// The bytes at `at`.
pub(crate) fn bytes(memory: &[u8], at: i32, length: i32) -> Result<&[u8], Stop> {
    let (at, length) = (at.cast_unsigned() as usize, length.cast_unsigned() as usize);
    // 32-bit numbers: their sum does not overflow.
    memory.get(at..at + length).ok_or(Stop::Status(Status::InvalidMemoryAccess))
}

/// The module's memory and the host's state.
pub(crate) fn split<'c>(call: &'c mut Call<'_>) -> Result<(&'c mut [u8], &'c mut Host), Stop> {
    let memory = call.data().guest()?.memory;
    Ok(memory.data_and_store_mut(call))
}

/// Writes a result to the module's memory.
pub(crate) fn put(call: &mut Call<'_>, at: i32, bytes: &[u8]) -> HostResult {
    let (memory, _) = split(call)?;
    let at = at.cast_unsigned() as usize;
    let place = memory.get_mut(at..at + bytes.len()).ok_or(Status::InvalidMemoryAccess)?;
    place.copy_from_slice(bytes);
    Ok(())
}

/// Writes a 32-bit number.
pub(crate) fn put_u32(call: &mut Call<'_>, at: i32, number: u32) -> HostResult {
    put(call, at, &number.to_le_bytes())
}

/// Copies `bytes` into memory that the module allocates, and writes their address and length.
pub(crate) fn give(call: &mut Call<'_>, bytes: &[u8], at: i32, length: i32) -> HostResult {
    let size = u32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
    let mut place = 0;
    if size > 0 {
        let allocate = call.data().guest()?.allocate.clone();
        place = allocate.call(&mut *call, size.cast_signed()).map_err(Stop::Trap)?;
        if place == 0 {
            return Err(Status::InternalFailure.into());
        }
        put(call, place, bytes)?;
    }
    put_u32(call, at, place.cast_unsigned())?;
    put_u32(call, length, size)
}

/// As [`give`], for bytes that `write` puts into a reusable buffer.
pub(crate) fn give_written(
    call: &mut Call<'_>,
    at: i32,
    length: i32,
    write: impl FnOnce(&mut Call<'_>, &mut Vec<u8>) -> HostResult,
) -> HostResult {
    // Taken out, because the module's allocator may call a host function meanwhile.
    let mut buffer = std::mem::take(&mut call.data_mut().scratch);
    buffer.clear();
    let done = write(call, &mut buffer).and_then(|()| give(call, &buffer, at, length));
    if buffer.capacity() <= 64 << 10 {
        call.data_mut().scratch = buffer;
    }
    done
}
