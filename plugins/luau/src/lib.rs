//! Filters written in Luau: a plugin kind like any other.
