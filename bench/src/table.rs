//! Figures in tables: the median of the rounds with the minimum and the maximum.

/// The median and the extremes of some figures.
pub(crate) struct Spread {
    /// The median, or the mean of the middle two.
    pub(crate) median: f64,
    /// The minimum.
    pub(crate) min: f64,
    /// The maximum.
    pub(crate) max: f64,
}

impl Spread {
    /// NaN without figures.
    pub(crate) fn new(figures: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (count, last) = (sorted.len(), sorted.len().saturating_sub(1));
        Self { median: f64::midpoint(at(last / 2), at(count / 2)), min: at(0), max: at(last) }
    }

    /// `1.02 [0.99-1.05]`; a difference may be negative: `0.1 [-0.2 to 0.3]`
    pub(crate) fn show(&self, digits: usize) -> String {
        let to = if self.min < 0.0 { " to " } else { "-" };
        format!("{:.digits$} [{:.digits$}{to}{:.digits$}]", self.median, self.min, self.max)
    }
}

/// Two decimals below 100, none from there on.
pub(crate) fn digits(figure: f64) -> usize {
    if figure < 100.0 { 2 } else { 0 }
}

/// Columns as wide as their contents; the first is left-aligned, the others right-aligned.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub(crate) fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self { rows: vec![names.into_iter().map(Into::into).collect()] }
    }

    /// One more row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints to standard output.
    pub(crate) fn print(&self) {
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
        for row in &self.rows {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let width = width(column).unwrap_or(0);
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            println!("  {}", cells.collect::<Vec<_>>().join("   "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_middle_two() {
        assert_eq!(Spread::new([3.0, 1.0, 2.0].into_iter()).show(1), "2.0 [1.0-3.0]");
        assert_eq!(Spread::new([4.0, 1.0, 2.0, 3.0].into_iter()).show(1), "2.5 [1.0-4.0]");
        assert_eq!(Spread::new([-0.2, 0.1, 0.3].into_iter()).show(1), "0.1 [-0.2 to 0.3]");
        assert!(Spread::new(std::iter::empty()).median.is_nan());
    }
}
