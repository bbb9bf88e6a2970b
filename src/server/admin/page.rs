//! The live page: one document with its style and script inside, which loads nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// Style and script are separate files for their editors, and one document for browsers.
const DOCUMENT: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
/// In the order of `page/order.txt`, which tests in a browser read.
const SCRIPTS: &[&str] = &[
    include_str!("page/store.js"),
    include_str!("page/theme.js"),
    include_str!("page/dom.js"),
    include_str!("page/format.js"),
    include_str!("page/session.js"),
    include_str!("page/stream.js"),
    include_str!("page/chart.js"),
    include_str!("page/table.js"),
    include_str!("page/dialogs.js"),
    include_str!("page/overview.js"),
    include_str!("page/flow.js"),
    include_str!("page/drains.js"),
    include_str!("page/upstreams.js"),
    include_str!("page/tap.js"),
    include_str!("page/sockets.js"),
    include_str!("page/reloads.js"),
    include_str!("page/configuration.js"),
    include_str!("page/log.js"),
    include_str!("page/main.js"),
];

/// The places of style and script in the document.
const STYLE_PLACE: &str = "/*STYLE*/";
const SCRIPT_PLACE: &str = "/*SCRIPT*/";

/// The document, and the policy that admits its style and its script alone.
pub(super) struct Page {
    pub(super) document: String,
    pub(super) policy: HeaderValue,
}

/// The page of this binary.
pub(super) fn page() -> &'static Page {
    static PAGE: LazyLock<Page> = LazyLock::new(Page::build);
    &PAGE
}

impl Page {
    fn build() -> Self {
        let script = format!("(() => {{\n\"use strict\";\n{}}})();\n", SCRIPTS.concat());
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; \
             img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
            hash(STYLE),
            hash(&script)
        );
        Self {
            document: DOCUMENT.replacen(STYLE_PLACE, STYLE, 1).replacen(SCRIPT_PLACE, &script, 1),
            // Base64 and ASCII text are a valid value.
            policy: HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'")),
        }
    }
}

fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_are_joined_in_the_order_of_their_list() {
        let order = include_str!("page/order.txt").split_ascii_whitespace();
        let files: Vec<_> = order.clone().collect();
        assert_eq!(files.len(), SCRIPTS.len());
        for (name, script) in order.zip(SCRIPTS) {
            let path = format!("{}/src/server/admin/page/{name}", env!("CARGO_MANIFEST_DIR"));
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), Some(*script), "{name}");
        }
    }

    #[test]
    fn the_document_holds_style_and_script_and_loads_nothing() {
        let page = page();
        assert!(page.document.contains(STYLE) && SCRIPTS.iter().all(|script| page.document.contains(script)));
        for place in [STYLE_PLACE, SCRIPT_PLACE] {
            assert!(DOCUMENT.contains(place) && !page.document.contains(place));
        }
        // Without exact content in its element, the hash of the policy would not match.
        assert!(page.document.contains(&format!("<style>{STYLE}</style>")));
        assert!(page.document.contains("<script>(() => {") && page.document.contains("})();\n</script>"));
        for part in [" src=", "url(", "@import", "href=\"http", "EventSource("] {
            assert!(!page.document.contains(part), "{part}");
        }
        let policy = page.policy.to_str().unwrap_or_default();
        assert!(policy.contains("style-src 'sha256-") && policy.contains("connect-src 'self'"), "{policy}");
    }
}
