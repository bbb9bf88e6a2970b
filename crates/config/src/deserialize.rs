//! Conversion of a [`Value`] into a serde type, with all problems at once instead of only the first.
//!
//! serde stops at the first error. A value that fails is therefore read repeatedly, each time without the parts
//! that were already judged ([`ErrorCollector`]): elements of lists and maps that were read, good or bad, and keys
//! that are unknown or unreadable. Every pass continues where the last one stopped, so the cost stays linear. A
//! good configuration is read exactly once.
//!
//! The type decides the meaning of a scalar: `1` is text for a `String` and a number for a `u16`.

mod error;
mod multi_error;
mod reader;
mod scalar;
mod serde_extensions;

#[cfg(test)]
mod tests;

pub use serde_extensions::raise;

use crate::{Problems, Value};
use multi_error::ErrorCollector;
use reader::Reader;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

impl Value {
    /// Reads the value into a serde type.
    ///
    /// # Errors
    /// Every unknown key, missing key, wrong type and value out of range, each with its place. Unknown keys are
    /// always rejected, with or without `deny_unknown_fields`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problems> {
        let error = match Reader::new(self, None).read(PhantomData::<T>) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let errors = ErrorCollector::default();
        while errors.advanced()
            && Reader::new(self, Some(&errors)).read(PhantomData::<T>).is_err_and(|e| e.again())
        {}
        let found = errors.into_problems();
        Err(if found.0.is_empty() { error.into_problems() } else { found })
    }
}
