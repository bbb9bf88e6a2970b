//! Settings with a few words as values; a removed value gets an error that names its replacement.

use moongate_config::{Problem, raise};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Reads one of `names` as the value at the same index; `replaced` has removed values, each with its help.
///
/// # Errors
/// Any other word.
pub(super) fn choice<'de, D: Deserializer<'de>, T: Copy>(
    deserializer: D,
    names: &'static [&'static str],
    values: &[T],
    replaced: &[(&str, &str)],
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    if let Some((_, value)) = names.iter().zip(values).find(|(name, _)| **name == text) {
        return Ok(*value);
    }
    match replaced.iter().find(|(old, _)| *old == text) {
        Some((old, instead)) => {
            Err(raise(Problem::new(format!("`{old}` is no longer a value of this setting")).help(*instead)))
        }
        None => Err(D::Error::unknown_variant(&text, names)),
    }
}
