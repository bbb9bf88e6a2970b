//! Links of a page: to files of the repository, and to headings within them.

use crate::page::{Page, root};
use std::collections::HashMap;

/// The targets of a page's links, outside its blocks.
fn targets(page: &Page) -> impl Iterator<Item = &str> {
    let targets = page.text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default());
    targets.filter(|target| !target.contains("://"))
}

/// The files that a page links to, relative to the page.
pub(crate) fn files(page: &Page) -> impl Iterator<Item = &str> {
    let files = targets(page).map(|target| target.split('#').next().unwrap_or_default());
    files.filter(|file| !file.is_empty())
}

/// The links of a page that lead to no file, or to no heading of the file.
pub(crate) fn broken(page: &Page) -> Vec<String> {
    let broken = targets(page).filter(|target| {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let path = match file {
            "" => root().join(&page.name),
            file => root().join(&page.name).parent().unwrap().join(file),
        };
        !path.exists() || !heading.is_empty() && !has_heading(&path, heading)
    });
    broken.map(|target| format!("{}: nothing at `{target}`", page.name)).collect()
}

fn has_heading(path: &std::path::Path, wanted: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    anchors(&text).iter().any(|anchor| anchor == wanted)
}

/// The anchors that GitHub and mdBook give to the headings of a page.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut inside = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        inside ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if inside || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let anchor = anchor(title.trim());
        let before = seen.entry(anchor.clone()).or_default();
        anchors.push(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
        *before += 1;
    }
    anchors
}

/// Letters, digits, `_` and `-` in lower case; a space becomes a hyphen.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-'));
    kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect()
}

#[test]
fn headings_have_the_anchors_of_github() {
    let page = "# What is `x_y`?\n## A b\n## A b\n```text\n# no heading\n```\n#no\n## 1.2 HTTP/2\n";
    assert_eq!(anchors(page), ["what-is-x_y", "a-b", "a-b-1", "12-http2"]);
}
