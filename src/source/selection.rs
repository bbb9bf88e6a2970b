//! The versions of the documents that take effect: the current ones, but for those that own a problem.

use super::SourceSet;
use super::documents::Rejection;
use super::feed::{Settled, Versions};
use crate::config::Document;
use crate::diagnostics::Sources;
use moongate_config::{Problems, Severity};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Why documents cannot be used together with the file.
#[derive(Clone, Debug)]
pub struct MergeError {
    /// All problems.
    pub problems: Problems,
    /// The texts, for reports.
    pub sources: Sources,
}

/// The documents that take effect, with what they became.
#[derive(Debug)]
pub struct Selected<T> {
    /// The result of the merge.
    pub merged: T,
    settled: Vec<(Arc<str>, Vec<Settled>)>,
}

impl<T> Selected<T> {
    /// The result of the merge, and what became of the documents.
    pub fn split(self) -> (T, Selected<()>) {
        (self.merged, Selected { merged: (), settled: self.settled })
    }
}

impl Selected<()> {
    /// Records which versions are in use, once they are.
    pub fn settle(self, sources: &SourceSet) {
        for (origin, settled) in self.settled {
            if let Some(source) = sources.all().find(|source| *source.origin() == origin) {
                source.feed().settle(settled);
            }
        }
    }

    /// The problems of the documents that are not in use, or not in their current version.
    pub fn report(&self) -> Option<String> {
        let settled = self.settled.iter().flat_map(|(_, settled)| settled);
        let reports = settled.filter_map(|settled| {
            let rejection = settled.rejection.as_ref()?;
            let used =
                if settled.good.is_some() { "its last good version is in use" } else { "it is not in use" };
            Some(format!("document `{}` rejected; {used}\n{}", settled.key, rejection.report))
        });
        let reports: Vec<_> = reports.collect();
        (!reports.is_empty()).then(|| reports.join("\n"))
    }
}

/// One document with the version that is tried.
struct Candidate {
    origin: Arc<str>,
    key: Arc<str>,
    versions: Versions,
    tried: Option<Arc<Document>>,
    rejection: Option<Rejection>,
    /// Whether its last good version has a problem too, so that no version is tried any more.
    is_left_out: bool,
}

impl Candidate {
    fn new(origin: &Arc<str>, key: Arc<str>, versions: Versions) -> Self {
        let (tried, rejection) = match versions.current.as_ref().map(|version| &version.read) {
            Some(Ok(document)) => (Some(Arc::clone(document)), None),
            Some(Err(rejection)) => (versions.good.clone(), Some(rejection.clone())),
            None => (None, None),
        };
        Self { origin: Arc::clone(origin), key, versions, tried, rejection, is_left_out: false }
    }

    /// Whether the version that is tried is not the one in use.
    fn is_changed(&self) -> bool {
        match (&self.tried, &self.versions.good) {
            (Some(tried), Some(good)) => !Arc::ptr_eq(tried, good),
            (None, None) => false,
            _ => true,
        }
    }

    /// Tries the version in use, or none if that is the one with the problem.
    fn demote(&mut self, rejection: Rejection) {
        self.is_left_out = !self.is_changed();
        self.tried = if self.is_left_out { None } else { self.versions.good.clone() };
        self.rejection.get_or_insert(rejection);
    }
}

/// Merges the documents of the sources with the file. A document with a problem is replaced by its last good version, and is
/// left out if that has one too.
///
/// # Errors
/// The problems that belong to no document.
pub fn select<T>(
    sources: &SourceSet,
    mut merge: impl FnMut(&[&Document]) -> Result<T, MergeError>,
) -> Result<Selected<T>, MergeError> {
    let versions = sources.all().flat_map(|source| {
        let origin = source.origin();
        source.feed().versions().into_iter().map(move |(key, versions)| Candidate::new(origin, key, versions))
    });
    let mut candidates: Vec<Candidate> = versions.collect();
    loop {
        let tried: Vec<_> = candidates.iter().filter_map(|candidate| candidate.tried.as_deref()).collect();
        let error = match merge(&tried) {
            Ok(merged) => return Ok(Selected { merged, settled: settled(candidates) }),
            Err(error) => error,
        };
        let owned = by_document(&error.problems);
        let mut has_demoted = false;
        for candidate in &mut candidates {
            let problems = candidate.tried.as_ref().and_then(|document| owned.get(&document.name));
            if let Some(problems) = problems {
                candidate.demote(Rejection::of(problems, &error.sources));
                has_demoted = true;
            }
        }
        if has_demoted {
            continue;
        }
        // The file has a problem that it does not have alone: one with the documents that have changed.
        let changed: HashSet<_> = candidates
            .iter()
            .enumerate()
            .filter(|(_, one)| one.is_changed() && !one.is_left_out)
            .map(|(index, _)| index)
            .collect();
        if changed.is_empty() {
            return Err(error);
        }
        let rejection = Rejection::of(&error.problems, &error.sources);
        for index in changed {
            let candidate = &mut candidates[index];
            candidate.tried = candidate.versions.good.clone();
            candidate.rejection.get_or_insert_with(|| rejection.clone());
        }
    }
}

/// The errors by the document that they are in.
fn by_document(problems: &Problems) -> HashMap<Arc<str>, Problems> {
    let mut owned: HashMap<Arc<str>, Problems> = HashMap::new();
    for problem in problems.0.iter().filter(|problem| problem.severity == Severity::Error) {
        if let Some(place) = &problem.place {
            owned.entry(Arc::clone(&place.file)).or_default().push(problem.clone());
        }
    }
    owned
}

fn settled(candidates: Vec<Candidate>) -> Vec<(Arc<str>, Vec<Settled>)> {
    let mut settled: Vec<(Arc<str>, Vec<Settled>)> = Vec::new();
    for Candidate { origin, key, tried, rejection, .. } in candidates {
        let one = Settled { key, good: tried, rejection };
        match settled.last_mut().filter(|(last, _)| *last == origin) {
            Some((_, all)) => all.push(one),
            None => settled.push((origin, vec![one])),
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::config;
    use crate::source::{ConfigSource, DocumentFeed, Source};
    use async_trait::async_trait;
    use moongate_config::{Place, Problem, Settings, Value};

    struct Silent;

    #[async_trait]
    impl ConfigSource for Silent {
        fn origin(&self) -> String {
            "etcd /m/".to_owned()
        }

        fn is_current(&self) -> bool {
            true
        }

        async fn run(&self, _: &DocumentFeed) {}
    }

    fn sources() -> SourceSet {
        let settings = Settings::new(Value::null(Place::nowhere()));
        let feed = DocumentFeed::new("etcd /m/", None);
        SourceSet(vec![Arc::new(Source {
            written: ("test".to_owned(), settings),
            kind: Box::new(Silent),
            feed,
        })])
    }

    fn put(sources: &SourceSet, documents: &[(&str, Option<&str>)]) {
        let value = |text: &str| Arc::from(text.as_bytes());
        let changes = documents.iter().map(|(key, text)| (Arc::from(*key), text.map(value)));
        sources.all().for_each(|source| source.feed().change(changes.clone()));
    }

    /// Merges; a document with `upstreams` of this name is at fault, or nothing is.
    fn merge(sources: &SourceSet, wrong: &[&str]) -> Result<Vec<String>, MergeError> {
        let selected = select(sources, |documents| {
            let mut problems = Problems::default();
            for document in documents {
                let text = document.text();
                let at = Place { file: Arc::clone(&document.name), ..Place::nowhere() };
                for name in wrong.iter().filter(|name| text.contains(**name)) {
                    let problem = Problem::new(format!("`{name}` is wrong"));
                    problems.push(if name.starts_with("own") { problem } else { problem.at(&at) });
                }
            }
            if problems.refuse() {
                return Err(MergeError { problems, sources: Sources::default() });
            }
            Ok(documents.iter().map(|document| document.text().to_string()).collect::<Vec<_>>())
        })?;
        let (merged, selected) = selected.split();
        selected.settle(sources);
        Ok(merged.iter().map(|text| text.trim_start_matches("# ").to_owned()).collect())
    }

    fn rejected(sources: &SourceSet) -> Vec<String> {
        let status = sources.all().next().unwrap().feed().status();
        status.rejections.iter().map(|one| format!("{} {}", one.document, one.error)).collect()
    }

    #[test]
    fn a_document_with_a_problem_is_replaced_by_its_last_good_version_or_left_out() {
        let sources = sources();
        put(&sources, &[("/m/a", Some("# a1")), ("/m/b", Some("# b1")), ("/m/c", Some("- no mapping"))]);
        assert_eq!(merge(&sources, &["b1"]).unwrap(), ["a1"]);
        assert_eq!(
            rejected(&sources),
            ["/m/b `b1` is wrong", "/m/c a document must be a mapping with `upstreams` and `routes`"]
        );
        put(&sources, &[("/m/a", Some("# a2")), ("/m/b", Some("# b2")), ("/m/c", None)]);
        assert_eq!(merge(&sources, &["a2"]).unwrap(), ["a1", "b2"]);
        assert_eq!(rejected(&sources), ["/m/a `a2` is wrong"]);
        // The last good version may be wrong beside others.
        assert_eq!(merge(&sources, &["a2", "a1"]).unwrap(), ["b2"]);
        put(&sources, &[("/m/a", Some("# a3")), ("/m/b", None)]);
        assert_eq!(merge(&sources, &[]).unwrap(), ["a3"]);
        assert!(rejected(&sources).is_empty());
        assert_eq!(sources.documents().len(), 1);
    }

    #[test]
    fn a_problem_of_the_file_leaves_the_documents_in_use() {
        let sources = sources();
        put(&sources, &[("/m/a", Some("# a1")), ("/m/b", Some("# b1"))]);
        merge(&sources, &[]).unwrap();
        put(&sources, &[("/m/a", Some("# own a2")), ("/m/b", None)]);
        assert_eq!(merge(&sources, &["own"]).unwrap(), ["a1", "b1"]);
        assert_eq!(rejected(&sources), ["/m/a `own` is wrong", "/m/b `own` is wrong"]);
        merge(&sources, &["own", "a1", "b1"]).unwrap();
        assert!(
            select(&sources, |_| Err::<(), _>(MergeError {
                problems: Problem::new("x").into(),
                sources: Sources::default()
            }))
            .is_err()
        );
    }

    #[test]
    fn a_problem_of_the_file_beside_one_of_a_document_in_use_is_an_error() {
        let sources = sources();
        put(&sources, &[("/m/a", Some("# a1")), ("/m/b", Some("# b1"))]);
        merge(&sources, &[]).unwrap();
        put(&sources, &[("/m/b", Some("# b2"))]);
        let mut merges = 0;
        let outcome = select(&sources, |documents| {
            merges += 1;
            assert!(merges < 10, "it does not end");
            let problem = match documents.iter().find(|document| document.text().contains("a1")) {
                Some(document) => {
                    let place = Place { file: Arc::clone(&document.name), ..Place::nowhere() };
                    Problem::new("a file is missing").at(&place)
                }
                None => Problem::new("a file of the file is missing"),
            };
            Err::<(), _>(MergeError { problems: problem.into(), sources: Sources::default() })
        });
        assert!(outcome.is_err());
        // Nothing was settled.
        assert_eq!(merge(&sources, &[]).unwrap(), ["a1", "b2"]);
    }

    #[test]
    fn routes_have_stable_names() {
        let name: Arc<str> = "etcd /m/a".into();
        let read = |text: &str| config::load_document(&name, "/m/a", &Arc::from(text)).unwrap();
        let file = config::load_text("file", "routes: [{ upstream: ['127.0.0.1:1'] }]", &|_| None).unwrap();
        let document = read(
            "x-a: 1\nroutes: [{ upstream: ['127.0.0.1:1'] }, { name: b, upstream: ['127.0.0.1:${X}'] }, { name: , upstream: ['127.0.0.1:1'] }]",
        );
        let loaded = config::with_documents(&file, &[&document]).unwrap();
        let names = loaded.spec.routes.iter().map(|route| route.name.as_ref().map_or("", |name| &name.value));
        assert_eq!(names.collect::<Vec<_>>(), ["", "/m/a#0", "/m/a#b", "/m/a#2"]);
        let twice = config::load_document(
            &"etcd /m/b".into(),
            "/m/b",
            &"upstreams: { a: { endpoints: ['127.0.0.1:1'] } }".into(),
        )
        .unwrap();
        let refused = config::with_documents(&file, &[&twice, &twice]).unwrap_err();
        assert_eq!(refused.problems.0[0].message, "`a` is defined in two files");
    }
}
