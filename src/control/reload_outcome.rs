//! The result of a reload.

/// The new generation, or why it was rejected.
pub type Outcome = Result<Reloaded, ReloadRefusal>;

/// An applied configuration.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// The number of its generation.
    pub generation: u64,
    /// Its rendered warnings, if any.
    pub report: Option<String>,
}

/// Why a configuration was rejected.
#[derive(Clone, Debug)]
pub struct ReloadRefusal {
    /// The rendered report with all problems.
    pub report: String,
}
