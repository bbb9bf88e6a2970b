//! A module's memory, from our side: every pointer and length that it hands over is checked, and what we
//! give it lies where its own allocator says.

use crate::host::Host;
use crate::status::{Done, Status, Stop};
use wasmtime::Caller;

/// A module that calls us.
pub(crate) type Call<'c> = Caller<'c, Host>;

/// The bytes at `at`.
pub(crate) fn bytes(memory: &[u8], at: i32, length: i32) -> Result<&[u8], Stop> {
    let (at, length) = (at.cast_unsigned() as usize, length.cast_unsigned() as usize);
    // 32-bit numbers: the sum fits.
    memory.get(at..at + length).ok_or(Stop::Status(Status::InvalidMemoryAccess))
}

/// The memory of the module and what the host knows about it.
pub(crate) fn split<'c>(call: &'c mut Call<'_>) -> Result<(&'c mut [u8], &'c mut Host), Stop> {
    let memory = call.data().guest()?.memory;
    Ok(memory.data_and_store_mut(call))
}

/// Writes where the module wants a result.
pub(crate) fn put(call: &mut Call<'_>, at: i32, bytes: &[u8]) -> Done {
    let (memory, _) = split(call)?;
    let at = at.cast_unsigned() as usize;
    let place = memory.get_mut(at..at + bytes.len()).ok_or(Status::InvalidMemoryAccess)?;
    place.copy_from_slice(bytes);
    Ok(())
}

/// Writes a 32-bit number.
pub(crate) fn put_u32(call: &mut Call<'_>, at: i32, number: u32) -> Done {
    put(call, at, &number.to_le_bytes())
}

/// Copies `bytes` into memory that the module allocates, and says where and how long they are.
pub(crate) fn give(call: &mut Call<'_>, bytes: &[u8], at: i32, length: i32) -> Done {
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

/// As [`give`], of bytes that `write` puts into a buffer that is used again.
pub(crate) fn give_written(
    call: &mut Call<'_>,
    at: i32,
    length: i32,
    write: impl FnOnce(&mut Call<'_>, &mut Vec<u8>) -> Done,
) -> Done {
    // Taken out, for the module's allocator may call us again meanwhile.
    let mut buffer = std::mem::take(&mut call.data_mut().scratch);
    buffer.clear();
    let done = write(call, &mut buffer).and_then(|()| give(call, &buffer, at, length));
    if buffer.capacity() <= 64 << 10 {
        call.data_mut().scratch = buffer;
    }
    done
}
