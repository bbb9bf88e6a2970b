//! Reads a [`Value`] into a serde type and reports everything that is wrong with it, not only the
//! first thing.
//!
//! serde stops at the first error. So a value that fails is read again and again, each time without
//! what was already judged ([`Hunt`]): elements of lists and maps once they were read, good or bad,
//! and keys that are unknown or hold something unreadable. Every pass goes on where the last one
//! stopped, so the cost stays linear; a good configuration is read exactly once.
//!
//! The type decides what a scalar means: `1` is text for a `String` and a number for a `u16`.

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
    /// Every unknown key, missing key, wrong type and value out of range, each with its place.
    /// Unknown keys are always refused, with or without `deny_unknown_fields`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problems> {
        let error = match Reader::new(self, None).read(PhantomData::<T>) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let hunt = ErrorCollector::default();
        while hunt.advanced()
            && Reader::new(self, Some(&hunt)).read(PhantomData::<T>).is_err_and(|e| e.again())
        {}
        let found = hunt.into_problems();
        Err(if found.0.is_empty() { error.into_problems() } else { found })
    }
}
