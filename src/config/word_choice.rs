//! Settings with a few words as values; a value that may be expected gets an error that names the right one.

use moongate_config::{Problem, raise};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Reads one of `names` as the value at the same index; `mistaken` has other values that may be expected, each with its help.
///
/// # Errors
/// Any other word.
pub(super) fn choice<'de, D: Deserializer<'de>, T: Copy>(
    deserializer: D,
    names: &'static [&'static str],
    values: &[T],
    mistaken: &[(&str, &str)],
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    if let Some((_, value)) = names.iter().zip(values).find(|(name, _)| **name == text) {
        return Ok(*value);
    }
    match mistaken.iter().find(|(word, _)| *word == text) {
        Some((word, instead)) => Err(raise(Problem::new(format!("unknown value `{word}`")).help(*instead))),
        None => Err(D::Error::unknown_variant(&text, names)),
    }
}
