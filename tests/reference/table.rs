//! Tables of a page: their rows, compared with the code's words.

use regex::Regex;
use std::collections::HashSet;
use std::sync::LazyLock;

/// What a page may add to the code's words: a link in parentheses or after a comma, and a last sentence that is a link.
static LINKS_OF_THE_PAGE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r" \(\[[^\]]*\]\([^)]*\)\)",
        r"|, (?:below|\[(?:below|note)\]\([^)]*\))",
        r"| (?:See )?\[[A-Z][^\]]*\]\([^)]*\)\.?$",
    ))
    .unwrap()
});
static LINK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap());
/// Code in a cell, or a plain value that the page writes as code.
static VALUE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(?:[0-9].*|true|false|[a-z0-9_]+|/.*)$").unwrap());

/// A row as the code demands it.
#[derive(Debug)]
pub(crate) struct Row {
    /// The name in the first column.
    pub(crate) key: String,
    /// The further columns.
    pub(crate) cells: Vec<Cell>,
}

/// A cell of a row.
#[derive(Debug)]
pub(crate) enum Cell {
    /// Words of the code. A page may add links.
    Words(String),
    /// A value of the code. A page may write it as code, with a remark after a colon or in parentheses.
    Value(String),
    /// Words of the page; a new row begins with these.
    OfThePage(String),
}

/// A piece of a page.
pub(crate) enum Part {
    /// Lines that are compared with nothing.
    Text(Vec<String>),
    /// The rows of a table below a marker, without its head.
    Table { name: String, line: usize, rows: Vec<String> },
}

/// Cuts a page at its tables of keys.
pub(crate) fn parts(page: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text: Vec<String> = Vec::new();
    let mut lines = page.lines().map(str::to_owned).enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let name =
            line.strip_prefix("<!-- keys: ").and_then(|rest| rest.strip_suffix(" -->")).map(str::to_owned);
        text.push(line);
        let Some(name) = name else { continue };
        // An empty line, the names of the columns and the rule below them.
        text.extend(lines.by_ref().take(3).map(|(_, line)| line));
        assert!(
            text.last().is_some_and(|rule| rule.starts_with("|---")),
            "no table below the marker of {name}"
        );
        parts.push(Part::Text(std::mem::take(&mut text)));
        let mut rows = Vec::new();
        while let Some((_, row)) = lines.next_if(|(_, line)| line.starts_with('|')) {
            rows.push(row);
        }
        parts.push(Part::Table { name, line: index + 1, rows });
    }
    parts.push(Part::Text(text));
    parts
}

/// The rows that the code demands, and why they differ from those of the page. A new row is below the one that precedes it
/// in the code, or at the end.
pub(crate) fn reconcile(rows: &[String], code: &[Row]) -> (Vec<String>, Vec<String>) {
    let (mut fresh, mut stale) = (Vec::new(), Vec::new());
    let mut written = HashSet::new();
    for row in rows {
        let Some(known) = key_of(row).and_then(|key| code.iter().find(|known| known.key == key)) else {
            stale.push(format!("no such name: {row}"));
            continue;
        };
        if !written.insert(known.key.as_str()) {
            stale.push(format!("a second row: {row}"));
            continue;
        }
        let updated = known.updated(row);
        if updated != *row {
            stale.push(format!("\n  page {row}\n  code {updated}"));
        }
        fresh.push(updated);
    }
    let mut before: Option<&Row> = None;
    for known in code {
        if !written.contains(known.key.as_str()) {
            stale.push(format!("no row: {}", known.line(&[])));
            let place =
                before.and_then(|before| fresh.iter().position(|row| key_of(row) == Some(&before.key)));
            fresh.insert(place.map_or(fresh.len(), |place| place + 1), known.line(&[]));
        }
        before = Some(known);
    }
    (fresh, stale)
}

/// Reconciles all tables of a page with this head, whose rows together are those of the code. A new row is in the table of
/// the one that precedes it. Returns the updated page too.
pub(crate) fn reconcile_page(page: &str, head: &str, code: Vec<Row>) -> (String, Vec<String>) {
    let mut lines = page.lines().map(str::to_owned).peekable();
    // Text and rows in turn; the last text has no rows.
    let mut pieces: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    let mut text = Vec::new();
    while let Some(line) = lines.next() {
        let is_head = line == head;
        text.push(line);
        if !is_head {
            continue;
        }
        text.extend(lines.next());
        let rows = std::iter::from_fn(|| lines.next_if(|line| line.starts_with('|'))).collect();
        pieces.push((std::mem::take(&mut text), rows));
    }
    assert!(!pieces.is_empty(), "no table {head}");
    let mut tables: Vec<Vec<Row>> = pieces.iter().map(|_| Vec::new()).collect();
    let mut current = 0;
    for row in code {
        let of_row = |(_, rows): &(_, Vec<String>)| rows.iter().any(|line| key_of(line) == Some(&row.key));
        current = pieces.iter().position(of_row).unwrap_or(current);
        tables[current].push(row);
    }
    let (mut updated, mut stale) = (Vec::new(), Vec::new());
    for ((text, rows), code) in pieces.into_iter().zip(tables) {
        let (rows, reasons) = reconcile(&rows, &code);
        updated.extend(text);
        updated.extend(rows);
        stale.extend(reasons);
    }
    updated.extend(text);
    (updated.join("\n") + "\n", stale)
}

/// The name in the first column.
fn key_of(row: &str) -> Option<&str> {
    let mut names = row.trim_start_matches('|').split(" | ").next()?.split('`').skip(1).step_by(2);
    let name = names.next()?;
    names.next().is_none().then_some(name)
}

/// The words of a cell without the links that a page adds.
fn words_of_effect(cell: &str) -> String {
    let text = LINKS_OF_THE_PAGE.replace_all(cell, "");
    LINK.replace_all(&text, "$1").trim().to_owned()
}

/// The words of a default: a page writes values as code, and a remark after a colon.
fn words_of_default(cell: &str) -> String {
    let text = words_of_effect(cell).replace(['`', '(', ')', ':'], "");
    text.trim().to_owned()
}

impl Row {
    /// The row of the page, with the cells of the code whose words differ.
    fn updated(&self, row: &str) -> String {
        let written: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).skip(1).collect();
        let is_same = |cell: &Cell, written: &str| match cell {
            Cell::Words(words) => words_of_effect(written) == *words,
            Cell::Value(words) => words_of_default(written) == words_of_default(words),
            Cell::OfThePage(_) => true,
        };
        let is_row_same = written.len() == self.cells.len()
            && self.cells.iter().zip(&written).all(|(cell, written)| is_same(cell, written));
        if is_row_same { row.to_owned() } else { self.line(&written) }
    }

    /// Its line in a table, with the page's own words from the row so far.
    fn line(&self, written: &[&str]) -> String {
        let cells = self.cells.iter().enumerate().map(|(at, cell)| match cell {
            // A vertical bar would end the cell.
            Cell::Words(words) => words.replace('|', "\\|"),
            Cell::Value(words) => match words.as_str() {
                word @ ("none" | "off" | "required" | "any" | "all" | "empty") => word.to_owned(),
                value if VALUE.is_match(value) => format!("`{value}`"),
                words => words.to_owned(),
            },
            Cell::OfThePage(words) => written.get(at).map_or_else(|| words.clone(), |own| (*own).to_owned()),
        });
        let cells: Vec<_> = cells.collect();
        let line = format!("| `{}` | {} |", self.key, cells.join(" | "));
        line.strip_suffix("|  |").map_or(line.clone(), |before| format!("{before}| |"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Row, reconcile, reconcile_page};

    fn row(key: &str, cells: Vec<Cell>) -> Row {
        Row { key: key.to_owned(), cells }
    }

    fn words(text: &str) -> Cell {
        Cell::Words(text.to_owned())
    }

    fn value(text: &str) -> Cell {
        Cell::Value(text.to_owned())
    }

    #[test]
    fn a_row_is_replaced_only_if_its_words_differ() {
        let code = [
            row("a", vec![words("Reads a file. `0`: off."), value("none (plain)")]),
            row("c", vec![words("Sets C."), value("required")]),
            row("b", vec![words("Sets B."), value("5s")]),
        ];
        let rows = [
            "| `a` | Reads a [file](x.md), [below](#a). `0`: off. [Details](y.md) | none: plain |",
            "| `b` | Sets A. | `5s` |",
            "| `d` | Sets D. | none |",
            "| `b` | Sets B. | `5s` |",
        ]
        .map(str::to_owned);
        let (fresh, stale) = reconcile(&rows, &code);
        assert_eq!(fresh, [rows[0].as_str(), "| `c` | Sets C. | required |", "| `b` | Sets B. | `5s` |"]);
        assert_eq!(stale.len(), 4, "{stale:?}");
    }

    #[test]
    fn a_new_row_is_in_the_table_of_its_predecessor_and_keeps_the_words_of_the_page() {
        let head = "| name | status | cause |";
        let page = format!(
            "# P\n\n{head}\n|---|---|---|\n| `a` | 400 | A [b](c). |\n\nText.\n\n{head}\n|---|---|---|\n| `c` | 1 | C. |\n\nEnd.\n"
        );
        let cause = |text: &str| Cell::OfThePage(text.to_owned());
        let code = || {
            vec![
                row("a", vec![words("404"), cause("of the code")]),
                row("b", vec![words("500"), cause("New.")]),
                row("c", vec![words("1"), cause("of the code")]),
            ]
        };
        let (updated, stale) = reconcile_page(&page, head, code());
        let expected =
            page.replace("| `a` | 400 | A [b](c). |", "| `a` | 404 | A [b](c). |\n| `b` | 500 | New. |");
        assert_eq!((updated.as_str(), stale.len()), (expected.as_str(), 2), "{stale:?}");
        assert_eq!(reconcile_page(&updated, head, code()), (expected, Vec::new()));
    }
}
