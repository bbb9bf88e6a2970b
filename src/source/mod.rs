//! Sources of configuration beside the operator's file: documents that many owners write.
//!
//! A document has upstreams and routes, and is refused alone: its last good version stays, and every other document takes
//! effect. `control` merges the documents with the file and compiles the result.

mod documents;
mod etcd;
mod feed;
mod quiet;
mod selection;

pub use documents::{DocumentState, RejectedDocument, SourceStatus};
pub use feed::DocumentFeed;
pub use quiet::QuietPeriod;
pub use selection::{MergeError, Selected, select};

use crate::config::KindEntry;
use async_trait::async_trait;
use moongate_config::{Kind, Placed, Problem, Problems, Settings};
use std::sync::Arc;

/// The kinds of `sources:`.
pub static SOURCES: &[Kind<dyn ConfigSource>] = &[etcd::KIND];

/// A kind of source.
#[async_trait]
pub trait ConfigSource: Send + Sync {
    /// What it reads, as `etcd /moongate/`: its name in status, metrics and log.
    fn origin(&self) -> String;

    /// Whether the files that its settings name are unchanged since they were read.
    fn is_current(&self) -> bool;

    /// Reports documents to the feed until it is dropped.
    async fn run(&self, feed: &DocumentFeed);
}

/// A source with its documents.
pub struct Source {
    written: (String, Settings),
    kind: Box<dyn ConfigSource>,
    feed: DocumentFeed,
}

impl Source {
    /// What it reads.
    pub fn origin(&self) -> &Arc<str> {
        self.feed.origin()
    }

    /// Its documents.
    pub fn feed(&self) -> &DocumentFeed {
        &self.feed
    }

    /// Reads until dropped.
    pub async fn run(self: Arc<Self>) {
        self.kind.run(&self.feed).await;
    }
}

/// The sources of a configuration.
#[derive(Clone, Default)]
pub struct SourceSet(Vec<Arc<Source>>);

impl SourceSet {
    /// Builds the sources, or reuses those of the prior generation whose settings and files are unchanged. Connects to none.
    /// Another one with the same origin begins with the documents of the prior one.
    pub fn compile(written: &[Placed<KindEntry>], prior: Option<&Self>, problems: &mut Problems) -> Self {
        let mut sources: Vec<Arc<Source>> = Vec::with_capacity(written.len());
        for entry in written {
            let is_same = |source: &&Arc<Source>| {
                source.written.0 == entry.kind.value
                    && source.written.1 == entry.settings
                    && source.kind.is_current()
            };
            let kept = prior.and_then(|prior| prior.0.iter().find(is_same)).cloned();
            let source = match kept {
                Some(kept) => Some(kept),
                None => problems.keep(build(entry, prior)).map(Arc::new),
            };
            let Some(source) = source else { continue };
            // A document that two sources have would have one name twice.
            let overlaps = |other: &&Arc<Source>| {
                let (one, other) = (&**source.origin(), &**other.origin());
                one.starts_with(other) || other.starts_with(one)
            };
            if let Some(other) = sources.iter().find(overlaps) {
                let (one, other) = (source.origin(), other.origin());
                let problem =
                    Problem::new(format!("two sources read the same documents: `{other}` and `{one}`"));
                problems.push(
                    problem
                        .help("remove one of them, or choose prefixes that do not overlap")
                        .at(&entry.place),
                );
                continue;
            }
            sources.push(source);
        }
        Self(sources)
    }

    /// Whether there is no source.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every source.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.0.iter()
    }

    /// The documents in use, for another process.
    pub fn documents(&self) -> Vec<DocumentState> {
        self.all().flat_map(|source| source.feed.in_use()).collect()
    }

    /// Begins with the documents that another process had.
    pub fn restore(&self, documents: &[DocumentState]) {
        self.all().for_each(|source| source.feed.restore(documents));
    }
}

fn build(entry: &Placed<KindEntry>, prior: Option<&SourceSet>) -> Result<Source, Problems> {
    let place = &entry.kind.place;
    let kind = Kind::find(SOURCES, "source", &entry.kind).map_err(|problem| problem.at(place))?;
    let kind = (kind.build)(&entry.settings).map_err(|problems| problems.at(place))?;
    let origin = kind.origin();
    let earlier = prior.and_then(|prior| prior.0.iter().find(|source| **source.origin() == *origin));
    let feed = DocumentFeed::new(&origin, earlier.map(|source| &source.feed));
    Ok(Source { written: (entry.kind.value.clone(), entry.settings.clone()), kind, feed })
}
