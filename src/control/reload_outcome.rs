//! How a reload ends.

/// The new generation, or why there is none.
pub type Outcome = Result<Reloaded, ReloadRefusal>;

/// A configuration that was taken.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// Its generation's number.
    pub generation: u64,
    /// Its warnings, rendered, when it has some.
    pub report: Option<String>,
}

/// Why a configuration was not taken.
#[derive(Clone, Debug)]
pub struct ReloadRefusal {
    /// The rendered report, all problems in it.
    pub report: String,
}
