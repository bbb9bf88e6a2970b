//! How a reload ends.

/// The new generation's number, or why there is none.
pub type Outcome = Result<u64, Refusal>;

/// Why a configuration was not taken.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The rendered report, all problems in it.
    pub report: String,
}
