//! Query parameters of the admin API.

use percent_encoding::percent_decode_str;

/// The decoded parameters of a query, in their order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=1&b=2`. `+` is a space, as browsers write forms. Invalid UTF-8 is replaced.
    pub(super) fn parse(text: &str) -> Self {
        let decode =
            |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub(super) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A number between `least` and `most`; `default` without one.
    ///
    /// # Errors
    /// A description of what is wrong.
    pub(super) fn number(
        &self,
        name: &str,
        default: usize,
        (least, most): (usize, usize),
    ) -> Result<usize, String> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("`{name}` must be a number from {least} to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("a=1&b=x+y%20z&c&a=2&&d=%ff");
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((query.get("b"), query.get("c"), query.get("e")), (Some("x y z"), Some(""), None));
        assert_eq!(query.get("d"), Some("\u{fffd}"));
    }

    #[test]
    fn a_number_has_bounds() {
        let query = Query::parse("page=3&far=1000&odd=x");
        assert_eq!(query.number("page", 1, (1, 9)), Ok(3));
        assert_eq!(query.number("none", 1, (1, 9)), Ok(1));
        assert!(query.number("far", 1, (1, 9)).is_err() && query.number("odd", 1, (1, 9)).is_err());
    }
}
