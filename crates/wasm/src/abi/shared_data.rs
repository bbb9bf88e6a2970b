//! Host functions for data shared by the instances of a `vm_id`.

use crate::memory::{Call, bytes, give, put_u32, split};
use crate::shared_data::SetError;
use crate::status::{HostResult, Status};

pub(super) fn get(call: &mut Call<'_>, k: i32, kn: i32, at: i32, length: i32, cas: i32) -> HostResult {
    let (memory, host) = split(call)?;
    let (value, number) = host.shared.data.get(bytes(memory, k, kn)?).ok_or(Status::NotFound)?;
    give(call, &value, at, length)?;
    put_u32(call, cas, number)
}

pub(super) fn set(call: &mut Call<'_>, k: i32, kn: i32, v: i32, vn: i32, cas: i32) -> HostResult {
    let (memory, host) = split(call)?;
    let (key, value) = (bytes(memory, k, kn)?, bytes(memory, v, vn)?);
    host.shared.data.set(key, value, cas.cast_unsigned()).map_err(|not| match not {
        SetError::Mismatch => Status::CasMismatch,
        SetError::Full => Status::InternalFailure,
    })?;
    Ok(())
}
