//! YAML with comments, laid out as a person would write it: short values on one line, others as blocks.

use std::fmt::Write as _;

/// The longest line that is not split.
const WIDEST: usize = 110;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Yaml {
    /// Text, quoted where needed. `$` is literal.
    Text(String),
    /// A number, a duration, a boolean or another word that needs no quotes.
    Word(String),
    /// A list.
    List(Vec<Yaml>),
    /// A mapping.
    Map(Map),
}

/// A mapping with comments.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Map {
    /// Lines above the mapping where it is an item of a list.
    pub(crate) comments: Vec<String>,
    entries: Vec<Entry>,
    layout: Layout,
}

/// Whether a mapping may be written on one line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Layout {
    #[default]
    Short,
    Block,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    comments: Vec<String>,
    key: String,
    value: Yaml,
}

impl Yaml {
    /// Text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A word that needs no quotes.
    pub(crate) fn word(word: &impl ToString) -> Self {
        Self::Word(word.to_string())
    }

    /// A list of texts.
    pub(crate) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(|text| Self::Text(text.into())).collect())
    }

    /// One text, or a list of several.
    pub(crate) fn one_or_many(texts: &[String]) -> Self {
        match texts {
            [one] => Self::text(one.clone()),
            many => Self::texts(many.iter().cloned()),
        }
    }
}

impl From<Map> for Yaml {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl Map {
    /// A mapping that always has one entry a line.
    pub(crate) fn block() -> Self {
        Self { layout: Layout::Block, ..Self::default() }
    }

    /// Adds an entry.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: impl Into<Yaml>) -> Self {
        self.set(key, value);
        self
    }

    /// Adds or replaces an entry.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Yaml>) {
        let value = value.into();
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => entry.value = value,
            None => self.entries.push(Entry { comments: Vec::new(), key: key.to_owned(), value }),
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Yaml> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Whether a key is there, in any case.
    pub(crate) fn has_field(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.key.eq_ignore_ascii_case(name))
    }

    /// The mapping at a key, created if it is absent.
    pub(crate) fn map(&mut self, key: &str) -> &mut Map {
        let at = match self.entries.iter().position(|entry| entry.key == key) {
            Some(at) => at,
            None => {
                self.set(key, Map::default());
                self.entries.len() - 1
            }
        };
        let value = &mut self.entries[at].value;
        if !matches!(value, Yaml::Map(_)) {
            *value = Yaml::Map(Map::default());
        }
        match value {
            Yaml::Map(map) => map,
            _ => unreachable!("it was made a mapping above"),
        }
    }

    /// Adds an item to the list at a key.
    pub(crate) fn push(&mut self, key: &str, item: impl Into<Yaml>) {
        let item = item.into();
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(Entry { value: Yaml::List(items), .. }) => items.push(item),
            _ => self.set(key, Yaml::List(vec![item])),
        }
    }

    /// Inserts an entry after the first one, the `kind` of a plugin.
    pub(crate) fn insert_after_kind(&mut self, key: &str, value: impl Into<Yaml>) {
        let at = self.entries.len().min(1);
        self.entries.insert(at, Entry { comments: Vec::new(), key: key.to_owned(), value: value.into() });
    }

    /// The kind of a plugin.
    pub(crate) fn kind(&self) -> String {
        match self.get("kind") {
            Some(Yaml::Text(kind)) => kind.clone(),
            _ => String::new(),
        }
    }

    /// Adds a comment above an entry.
    pub(crate) fn comment(&mut self, key: &str, comment: impl Into<String>) {
        let comment = comment.into();
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == key)
            && !entry.comments.contains(&comment)
        {
            entry.comments.push(comment);
        }
    }

    /// Whether there are no entries.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds the entries of another mapping.
    pub(crate) fn append(&mut self, other: Map) {
        self.entries.extend(other.entries);
    }

    /// The whole document, with an empty line between its sections.
    pub(crate) fn document(&self, head: &[String]) -> String {
        let mut out = String::new();
        for line in head {
            out.push_str(&comment_line(line));
            out.push('\n');
        }
        for entry in &self.entries {
            if !out.is_empty() {
                out.push('\n');
            }
            write_entry(&mut out, entry, 0, "");
        }
        out
    }
}

/// Characters that YAML does not have in plain text, or that end a line.
fn is_special(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn comment_line(text: &str) -> String {
    // A line break or a control character from a file must not end the comment.
    let text: String = text.chars().map(|c| if is_special(c) { ' ' } else { c }).collect();
    format!("# {text}").trim_end().to_owned()
}

fn write_comments(out: &mut String, comments: &[String], indent: usize) {
    for comment in comments {
        let _ = writeln!(out, "{:indent$}{}", "", comment_line(comment));
    }
}

/// Writes `key: value`, after `lead` (the dash of a list) on its first line.
fn write_entry(out: &mut String, entry: &Entry, indent: usize, lead: &str) {
    if lead.is_empty() {
        write_comments(out, &entry.comments, indent);
    }
    let start = format!("{:width$}{lead}{}:", "", key_text(&entry.key), width = indent - lead.len());
    if let Some(short) = short(&entry.value)
        && start.chars().count() + 1 + short.chars().count() <= WIDEST
    {
        let _ = writeln!(out, "{start} {short}");
        return;
    }
    match &entry.value {
        Yaml::Map(map) if !map.entries.is_empty() => {
            let _ = writeln!(out, "{start}");
            for entry in &map.entries {
                write_entry(out, entry, indent + 2, "");
            }
        }
        Yaml::List(items) if !items.is_empty() => {
            let _ = writeln!(out, "{start}");
            for item in items {
                write_item(out, item, indent + 4);
            }
        }
        other => {
            let _ = writeln!(out, "{start} {}", flow(other));
        }
    }
}

/// Writes an item of a list whose contents begin at `indent`.
fn write_item(out: &mut String, item: &Yaml, indent: usize) {
    if let Yaml::Map(map) = item {
        write_comments(out, &map.comments, indent - 2);
    }
    let one_line = short(item).filter(|text| indent + text.chars().count() <= WIDEST);
    match item {
        Yaml::Map(map) if one_line.is_none() && !map.entries.is_empty() => {
            for (index, entry) in map.entries.iter().enumerate() {
                if index == 0 {
                    write_comments(out, &entry.comments, indent - 2);
                }
                write_entry(out, entry, indent, if index == 0 { "- " } else { "" });
            }
        }
        other => {
            let text = one_line.unwrap_or_else(|| flow(other));
            let _ = writeln!(out, "{:width$}- {text}", "", width = indent - 2);
        }
    }
}

/// The value on one line, if it has no comments within and may be on one.
fn short(value: &Yaml) -> Option<String> {
    let allowed = match value {
        Yaml::Text(_) | Yaml::Word(_) => true,
        Yaml::List(items) => {
            items.iter().all(|item| matches!(item, Yaml::Text(_) | Yaml::Word(_))) || {
                // One short mapping in a list, as in `plugins: [{ kind: redirect, https: true }]`.
                items.len() == 1 && is_plain(&items[0]) && flow(&items[0]).len() <= 70
            }
        }
        Yaml::Map(_) => is_plain(value),
    };
    allowed.then(|| flow(value))
}

/// Whether a value has neither comments nor blocks within.
fn is_plain(value: &Yaml) -> bool {
    match value {
        Yaml::Text(_) | Yaml::Word(_) => true,
        Yaml::List(items) => items.iter().all(is_plain),
        Yaml::Map(map) => {
            map.layout == Layout::Short
                && map.comments.is_empty()
                && map.entries.iter().all(|entry| entry.comments.is_empty() && is_plain(&entry.value))
        }
    }
}

/// The value in flow style.
fn flow(value: &Yaml) -> String {
    match value {
        Yaml::Word(word) => word.clone(),
        Yaml::Text(text) => scalar(text),
        Yaml::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Yaml::Map(map) if map.entries.is_empty() => "{}".to_owned(),
        Yaml::Map(map) => {
            let entries =
                map.entries.iter().map(|entry| format!("{}: {}", key_text(&entry.key), flow(&entry.value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn key_text(key: &str) -> String {
    scalar(key)
}

/// Text as a scalar that reads back as this text.
fn scalar(text: &str) -> String {
    let text = moongate_config::escape_dollars(text);
    if is_plain_scalar(&text) {
        return text;
    }
    if text.chars().any(is_special) {
        return double_quoted(&text);
    }
    if text.contains(['"', '\\']) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    format!("\"{text}\"")
}

fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_special(c) => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether text needs no quotes in block and in flow style, and cannot be taken for another type.
fn is_plain_scalar(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let starts = first.is_ascii_alphanumeric() || matches!(first, '/' | '=' | '_' | '.');
    let inner = |c: char| c.is_ascii_alphanumeric() || "/._-+=~@$^()*;:".contains(c);
    let ends = !text.ends_with(':');
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    let is_number = first.is_ascii_digit() || first == '.';
    let is_number =
        is_number && text.chars().all(|c| c.is_ascii_digit() || "._eE+-xo:".contains(c)) && !is_address(text);
    starts && text.chars().all(inner) && ends && !is_word && !is_number
}

/// Whether text is an IPv4 address, or one with a port.
fn is_address(text: &str) -> bool {
    let host = text.split(':').next().unwrap_or(text);
    host.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_quoted_where_they_would_be_read_otherwise() {
        for (text, written) in [
            ("ws.example.com", "ws.example.com"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::]:80", "\"[::]:80\""),
            ("*.example.com", "\"*.example.com\""),
            ("=/a", "=/a"),
            ("~^/a/(.*)$", "\"~^/a/(.*)$\""),
            ("~\\.php$", "'~\\.php$'"),
            ("1.2", "\"1.2\""),
            ("off", "\"off\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("it's \"x\"", "'it''s \"x\"'"),
            ("a\nb", "\"a\\nb\""),
            ("/b/$1", "/b/$1"),
            ("/b/${1}x", "\"/b/$${1}x\""),
            ("a$$", "a$$$"),
        ] {
            assert_eq!(scalar(text), written);
        }
    }

    #[test]
    fn short_values_share_a_line() {
        let mut document = Map::default();
        let mut route = Map::block().with("name", Yaml::text("chat"));
        route.comments.push("a comment".to_owned());
        route.set("websocket", Map::default().with("idle_timeout", Yaml::word(&"1d")));
        route.push(
            "plugins",
            Map::default().with("kind", Yaml::text("redirect")).with("https", Yaml::word(&true)),
        );
        document.push("routes", route);
        document.set("listeners", Yaml::List(vec![Map::default().with("name", Yaml::text("web")).into()]));
        let expected = "# head\n\nroutes:\n  # a comment\n  - name: chat\n    websocket: { idle_timeout: 1d }\n    \
                        plugins: [{ kind: redirect, https: true }]\n\nlisteners: [{ name: web }]\n";
        assert_eq!(document.document(&["head".to_owned()]), expected);
    }
}
