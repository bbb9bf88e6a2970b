//! Minimal parser for the text exposition format.

/// One scrape.
pub(crate) struct Metrics(String);

impl Metrics {
    /// Takes the text of a scrape.
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of the series with that name and all these labels; 0 without one.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name, labels).map(value).sum()
    }

    /// Returns whether there is a series with that name and all these labels.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.series(name, labels).next().is_some()
    }

    /// The lines of the series with that name, each with its labels and its value.
    pub(crate) fn values(&self, name: &str) -> Vec<(String, f64)> {
        self.series(name, &[])
            .map(|line| (line.rsplit_once(' ').unwrap_or((line, "")).0.to_owned(), value(line)))
            .collect()
    }

    fn series<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a str> {
        self.0.lines().filter(move |line| {
            let Some(rest) = line.strip_prefix(name) else { return false };
            rest.starts_with(['{', ' '])
                && labels.iter().all(|(label, value)| rest.contains(&format!("{label}=\"{value}\"")))
        })
    }
}

fn value(line: &str) -> f64 {
    line.rsplit(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no value in {line:?}"))
}
