//! Tables and colours of standard output: columns separated by two spaces, numbers aligned to the right.

use super::printable::printable;
use crate::diagnostics::Color;
use std::fmt::Write;
use unicode_width::UnicodeWidthStr;

/// The appearance of a text on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TextStyle {
    #[default]
    Plain,
    Heading,
    Good,
    Warning,
    Bad,
    Faint,
    /// From the client to the backend.
    ToBackend,
    /// From the backend to the client.
    ToClient,
}

impl TextStyle {
    /// The text in this style, with control characters escaped.
    pub(super) fn paint(self, text: &str, color: Color) -> String {
        let text = printable(text);
        let code = match self {
            _ if color == Color::Never || text.is_empty() => return text.into_owned(),
            Self::Plain => return text.into_owned(),
            Self::Heading => "1",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Faint => "2",
            Self::ToBackend => "36",
            Self::ToClient => "35",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The side of a column that is straight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnAlign {
    Left,
    Right,
}

/// One cell with its style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableCell(String, TextStyle);

impl TableCell {
    pub(super) fn new(text: impl Into<String>, style: TextStyle) -> Self {
        Self(text.into(), style)
    }

    fn width(&self) -> usize {
        printable(&self.0).width()
    }
}

impl<T: ToString> From<T> for TableCell {
    fn from(text: T) -> Self {
        Self(text.to_string(), TextStyle::Plain)
    }
}

/// A table with headings.
#[derive(Clone, Debug)]
pub(super) struct TextTable {
    columns: Vec<(&'static str, ColumnAlign)>,
    rows: Vec<Vec<TableCell>>,
}

impl TextTable {
    pub(super) fn new(columns: &[(&'static str, ColumnAlign)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn row(&mut self, row: Vec<TableCell>) {
        self.rows.push(row);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines of the table, without spaces at their ends.
    pub(super) fn render(&self, color: Color) -> String {
        let headings =
            self.columns.iter().map(|(name, _)| TableCell::new(*name, TextStyle::Heading)).collect();
        let lines: Vec<&Vec<TableCell>> = std::iter::once(&headings).chain(&self.rows).collect();
        let width =
            |column: usize| lines.iter().filter_map(|row| row.get(column)).map(TableCell::width).max();
        let widths: Vec<_> = (0..self.columns.len()).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &lines {
            let mut line = String::new();
            for ((cell, (_, align)), width) in row.iter().zip(&self.columns).zip(&widths) {
                let shown = cell.1.paint(&cell.0, color);
                let fill = width - cell.width();
                // Writing to a String cannot fail.
                let _ = match align {
                    ColumnAlign::Left => write!(line, "{shown}{:fill$}  ", ""),
                    ColumnAlign::Right => write!(line, "{:fill$}{shown}  ", ""),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_the_width_on_a_terminal() {
        let mut table = TextTable::new(&[
            ("NAME", ColumnAlign::Left),
            ("ACTIVE", ColumnAlign::Right),
            ("STATE", ColumnAlign::Left),
        ]);
        table.row(vec!["a".into(), 5.into(), "".into()]);
        table.row(vec!["日本\u{1b}".into(), 12_345_678.into(), TableCell::new("bad", TextStyle::Bad)]);
        let plain = "NAME          ACTIVE  STATE\na                  5\n日本\\u{1b}  12345678  bad\n";
        assert_eq!(table.render(Color::Never), plain);
        let colored = table.render(Color::Always);
        assert!(colored.ends_with("日本\\u{1b}  12345678  \x1b[31mbad\x1b[0m\n"), "{colored:?}");
        assert!(colored.starts_with("\x1b[1mNAME\x1b[0m          \x1b[1mACTIVE\x1b[0m"), "{colored:?}");
    }
}
