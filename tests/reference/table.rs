//! Tables of keys on a page: their rows, compared with the code's words.

use super::settings::Setting;
use regex::Regex;
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

/// The rows that the code's settings demand, and why they differ from those of the page.
pub(crate) fn reconcile(rows: &[String], code: &[&Setting]) -> (Vec<String>, Vec<String>) {
    let (mut fresh, mut stale) = (Vec::new(), Vec::new());
    let mut left: Vec<&Setting> = code.to_vec();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let keys: Vec<&str> = cells[0].split('`').skip(1).step_by(2).collect();
        let Some(at) = left.iter().position(|setting| keys == [setting.key.as_str()]) else {
            stale.push(format!("no such key: {row}"));
            continue;
        };
        let setting = left.remove(at);
        let same = cells.len() == 3
            && words_of_effect(cells[1]) == setting.effect
            && words_of_default(cells[2]) == words_of_default(&setting.default);
        if same {
            fresh.push(row.clone());
        } else {
            stale.push(format!("\n  page {row}\n  code {}", setting.row()));
            fresh.push(setting.row());
        }
    }
    for setting in left {
        stale.push(format!("no row: {}", setting.row()));
        fresh.push(setting.row());
    }
    (fresh, stale)
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

impl Setting {
    /// Its row in a table.
    fn row(&self) -> String {
        let default = match self.default.as_str() {
            word @ ("none" | "off" | "required" | "any" | "all" | "empty") => word.to_owned(),
            value if VALUE.is_match(value) => format!("`{value}`"),
            words => words.to_owned(),
        };
        // A vertical bar would end the cell.
        format!("| `{}` | {} | {default} |", self.key, self.effect.replace('|', "\\|")).replace("|  |", "| |")
    }
}

#[test]
fn a_row_is_replaced_only_if_its_words_differ() {
    let setting = |key: &str, effect: &str, default: &str| Setting {
        key: key.to_owned(),
        effect: effect.to_owned(),
        default: default.to_owned(),
    };
    let code = [
        setting("a", "Reads a file. `0`: off.", "none (plain)"),
        setting("b", "Sets B.", "5s"),
        setting("c", "Sets C.", "required"),
    ];
    let rows = [
        "| `a` | Reads a [file](x.md), [below](#a). `0`: off. [Details](y.md) | none: plain |",
        "| `b` | Sets A. | `5s` |",
        "| `d` | Sets D. | none |",
    ]
    .map(str::to_owned);
    let (fresh, stale) = reconcile(&rows, &code.iter().collect::<Vec<_>>());
    assert_eq!(fresh, [rows[0].as_str(), "| `b` | Sets B. | `5s` |", "| `c` | Sets C. | required |"]);
    assert_eq!(stale.len(), 3, "{stale:?}");
}
