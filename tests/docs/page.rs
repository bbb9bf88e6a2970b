//! Parser for Markdown pages: their fenced blocks, and the commands of a console block.

use std::path::{Path, PathBuf};

/// A page of documentation.
pub(crate) struct Page {
    /// Relative to the repository's root, for example `docs/concepts/routing.md`.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) blocks: Vec<Block>,
}

/// A fenced block.
pub(crate) struct Block {
    /// The text after the fence: a language, and for YAML and text an optional file name.
    pub(crate) info: String,
    pub(crate) text: String,
    /// The page's line of its first line, from 1.
    pub(crate) line: usize,
}

/// A command of a console block.
pub(crate) struct Shown {
    pub(crate) text: String,
    /// The output on the page; empty if it shows none.
    pub(crate) output: String,
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every page that readers are directed to.
pub(crate) fn pages() -> Vec<Page> {
    let mut names = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "plugins/README.md"]
        .map(str::to_owned)
        .to_vec();
    let examples = std::fs::read_dir(root().join("examples")).unwrap();
    let examples =
        examples.map(|entry| format!("examples/{}/README.md", entry.unwrap().file_name().to_string_lossy()));
    names.extend(examples.filter(|name| root().join(name).exists()));
    let mut folders = vec!["docs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let path = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
            match Path::new(&path).extension() {
                Some(extension) if extension == "md" => names.push(path),
                None => folders.push(path),
                Some(_) => {}
            }
        }
    }
    names.sort();
    names.iter().map(|name| Page::read(name)).collect()
}

impl Page {
    pub(crate) fn read(name: &str) -> Self {
        let text =
            std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), blocks: blocks(name, &text), text }
    }
}

fn blocks(name: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        match (line.trim().strip_prefix("```"), inside) {
            (Some(info), false) => {
                blocks.push(Block { info: info.trim().to_owned(), text: String::new(), line: index + 2 });
                inside = true;
            }
            (Some(_), true) => inside = false,
            (None, true) => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, false) => {}
        }
    }
    assert!(!inside, "{name}: the last block has no end");
    blocks
}

impl Block {
    pub(crate) fn language(&self) -> &str {
        self.info.split_whitespace().next().unwrap_or_default()
    }

    /// The name after `yaml` or `text`, if the block is a file that commands or an application use.
    pub(crate) fn file(&self) -> Option<&str> {
        self.info.split_whitespace().nth(1)
    }

    /// `$ ` begins a command, `> ` continues it, any other line is output.
    pub(crate) fn commands(&self) -> Vec<Shown> {
        let mut commands: Vec<Shown> = Vec::new();
        for line in self.text.lines() {
            if let Some(text) = line.strip_prefix("$ ") {
                commands.push(Shown { text: text.to_owned(), output: String::new() });
            } else if let Some(command) = commands.last_mut() {
                if let Some(more) = line.strip_prefix("> ").filter(|_| command.output.is_empty()) {
                    command.text.push('\n');
                    command.text.push_str(more);
                } else {
                    command.output.push_str(line);
                    command.output.push('\n');
                }
            }
        }
        commands
    }
}

/// Returns whether `actual` matches the page, where `…` matches anything; as the last line it matches nothing
/// too.
pub(crate) fn shows(expected: &str, actual: &str) -> bool {
    let expected = expected.trim();
    let expected = expected.strip_suffix("\n…").map_or(expected.to_owned(), |start| format!("{start}…"));
    let mut pieces = expected.split('…');
    let Some(mut rest) = actual.trim().strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut pieces: Vec<_> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(found) = rest.find(piece) else { return false };
        rest = &rest[found + piece.len()..];
    }
    rest.ends_with(last)
}
