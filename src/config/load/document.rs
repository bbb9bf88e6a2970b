//! Documents of sources: parts of a configuration that many owners write, each refused alone.

use super::setting_paths;
use super::{Loaded, Refused, foreign_names, merge, setting_places, yaml};
use crate::config::Config;
use crate::diagnostics::Sources;
use moongate_config::{Key, Problem, Problems, Quotes, Value, ValueKind};
use std::sync::Arc;

/// The keys of a document. The others belong to the operator's file: they concern the process, or the parts of others.
const KEYS: [&str; 2] = ["upstreams", "routes"];

/// A document that is valid alone.
#[derive(Clone, Debug)]
pub struct Document {
    /// The name in reports, as `etcd /moongate/shop.yaml`.
    pub name: Arc<str>,
    tree: Value,
    text: Arc<str>,
}

impl Document {
    /// The text.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

/// Reads a document. Its routes get the names `KEY#NAME`, or `KEY#INDEX` for those without a name: another document, or another
/// route before them, renames none. Environment variables are not expanded.
///
/// # Errors
/// All problems of the document, with their places.
pub fn load_document(name: &Arc<str>, key: &str, text: &Arc<str>) -> Result<Document, Problems> {
    let mut problems = Problems::default();
    // As in a file.
    let tree = yaml::read(name, text.strip_prefix('\u{feff}').unwrap_or(text), &mut problems);
    let Some(mut tree) = tree else { return Err(problems) };
    // Places are those in the document.
    setting_paths::name_only(&mut tree);
    let ValueKind::Map(entries) = &mut tree.kind else {
        if tree.kind == ValueKind::Null {
            tree.kind = ValueKind::Map(Vec::new());
            return Ok(Document { name: Arc::clone(name), tree, text: Arc::clone(text) });
        }
        let problem = Problem::new("a document must be a mapping with `upstreams` and `routes`");
        problems.push(problem.at(&tree.place));
        return Err(problems);
    };
    entries.retain(|(key, _)| !key.text.starts_with("x-"));
    let known = setting_places::settings::<Config>();
    for (key, _) in entries.iter().filter(|(key, _)| !KEYS.contains(&&*key.text)) {
        if known.contains(&key.text) || key.text == "include" {
            let problem = Problem::new(format!("`{}` belongs to the configuration file", key.text));
            problems.push(problem.help("a document of a source has `upstreams` and `routes`").at(&key.place));
        }
    }
    if !problems.refuse()
        && let Err(mut found) = tree.read::<Config>()
    {
        foreign_names::advise(&mut found, &[], None);
        problems.extend(found);
    }
    if problems.refuse() {
        return Err(problems);
    }
    name_routes(&mut tree, key);
    Ok(Document { name: Arc::clone(name), tree, text: Arc::clone(text) })
}

/// Gives each route its stable name.
fn name_routes(tree: &mut Value, document: &str) {
    let ValueKind::Map(entries) = &mut tree.kind else { return };
    let routes = entries.iter_mut().find(|(key, _)| key.text == "routes").map(|(_, value)| &mut value.kind);
    let Some(ValueKind::List(routes)) = routes else { return };
    for (index, route) in routes.iter_mut().enumerate() {
        let place = route.place.clone();
        let ValueKind::Map(settings) = &mut route.kind else { continue };
        let written = settings.iter_mut().find(|(key, _)| key.text == "name").map(|(_, value)| value);
        match written {
            Some(Value { kind: kind @ ValueKind::Scalar { .. }, .. }) => {
                if let ValueKind::Scalar { text, .. } = kind {
                    *kind = name(document, text);
                }
            }
            Some(null) => null.kind = name(document, &index.to_string()),
            None => {
                let key = Key { place: place.clone(), text: "name".to_owned() };
                settings.push((key, Value { place, kind: name(document, &index.to_string()) }));
            }
        }
    }
}

fn name(document: &str, route: &str) -> ValueKind {
    ValueKind::Scalar { text: format!("{document}#{route}"), quotes: Quotes::Present }
}

/// The configuration of a file with these documents, merged as included files are.
///
/// # Errors
/// Names that two of them have, at the later place.
pub fn with_documents(file: &Loaded, documents: &[&Document]) -> Result<Loaded, Refused> {
    let mut tree = file.value.clone();
    let mut sources: Sources = file.sources.clone();
    let mut problems = Problems::default();
    for document in documents {
        merge::merge(&mut tree, document.tree.clone(), &mut problems);
        sources.insert(Arc::clone(&document.name), document.text.to_string());
    }
    let spec = match tree.read() {
        Ok(spec) if !problems.refuse() => spec,
        Ok(_) => return Err(Refused { problems, sources, rest: None }),
        Err(found) => {
            problems.extend(found);
            return Err(Refused { problems, sources, rest: None });
        }
    };
    let (warnings, environment) = (file.warnings.clone(), file.environment.clone());
    Ok(Loaded { spec, sources, warnings, value: tree, environment })
}
