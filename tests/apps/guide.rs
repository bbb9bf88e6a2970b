//! A page of docs/guides/apps/ or of an example: its configuration, the files of the application, and the commands that check
//! the result.

use crate::page::{Page, shows};
use std::process::{Command, Stdio};

/// Seconds after which a command has failed.
const LIMIT: &str = "120";

/// A page with commands for an application.
pub(crate) struct Guide(Page);

/// The gateway's address in the pages: the listener of a configuration without one.
const GATEWAY: &str = "127.0.0.1:8080";

impl Guide {
    /// The page of docs/guides/apps/ with that name.
    pub(crate) fn of(name: &str) -> Self {
        Self::at(&format!("docs/guides/apps/{name}.md"))
    }

    /// The page at a path below the repository's root.
    pub(crate) fn at(path: &str) -> Self {
        Self(Page::read(path))
    }

    /// The first configuration of the page, with addresses replaced.
    pub(crate) fn yaml(&self, replace: &[(&str, &str)]) -> String {
        self.yamls(replace).swap_remove(0)
    }

    /// All configurations of the page, with addresses replaced.
    pub(crate) fn yamls(&self, replace: &[(&str, &str)]) -> Vec<String> {
        let blocks = self.0.blocks.iter().filter(|block| block.language() == "yaml");
        let yamls: Vec<_> = blocks.map(|block| self.filled(&block.text, replace)).collect();
        assert!(!yamls.is_empty(), "{}: no configuration", self.0.name);
        yamls
    }

    /// The application's own file with that name, with addresses and ports replaced.
    pub(crate) fn file(&self, name: &str, replace: &[(&str, &str)]) -> String {
        let block =
            self.0.blocks.iter().find(|block| block.language() == "text" && block.file() == Some(name));
        let block = block.unwrap_or_else(|| panic!("{}: no file {name}", self.0.name));
        self.filled(&block.text, replace)
    }

    /// Replaces each text, which must occur.
    fn filled(&self, text: &str, replace: &[(&str, &str)]) -> String {
        replace.iter().fold(text.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{}: {from} is not in\n{text}", self.0.name);
            text.replace(from, to)
        })
    }

    /// Runs the commands of the page against the gateway; each must print the output on the page.
    pub(crate) fn check(&self, gateway: std::net::SocketAddr, replace: &[(&str, &str)]) {
        let blocks: Vec<_> = self.0.blocks.iter().filter(|block| block.info == "console").collect();
        assert!(!blocks.is_empty(), "{}: no command", self.0.name);
        for shown in blocks.iter().flat_map(|block| block.commands()) {
            let mut replace = replace.to_vec();
            let gateway = gateway.to_string();
            replace.push((GATEWAY, &gateway));
            let text = replace.iter().fold(shown.text, |text, (from, to)| text.replace(from, to));
            let expected = replace.iter().fold(shown.output, |text, (from, to)| text.replace(from, to));
            let mut command = Command::new("timeout");
            let output = command.args([LIMIT, "bash", "-c", &text]).stdin(Stdio::null()).output().unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && (expected.is_empty() || shows(&expected, &printed)),
                "{}: `{text}`: {}\n{printed}\n{}",
                self.0.name,
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}
