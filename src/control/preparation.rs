//! Reading and compiling of a configuration, without side effects: the operator's file, and the documents of its sources.

use super::ReloadRefusal;
use crate::config::{self, Config};
use crate::diagnostics::{self, Color, Sources};
use crate::snapshot::{self, Kinds, Snapshot};
use crate::source::{self, MergeError, Selected, SourceSet};
use moongate_config::Problems;
use std::path::Path;
use std::sync::Arc;

/// A refused configuration.
pub(super) struct RefusedConfig {
    pub(super) problems: Problems,
    pub(super) sources: Sources,
}

impl RefusedConfig {
    pub(super) fn render(&self, color: Color) -> ReloadRefusal {
        ReloadRefusal { report: diagnostics::render(&self.problems, &self.sources, color) }
    }
}

impl From<MergeError> for RefusedConfig {
    fn from(MergeError { problems, sources }: MergeError) -> Self {
        Self { problems, sources }
    }
}

/// A compiled configuration.
pub(super) struct Compiled {
    pub(super) snapshot: Snapshot,
    pub(super) loaded: Arc<config::Loaded>,
    pub(super) warnings: Problems,
}

impl Compiled {
    /// The rendered warnings, if any.
    pub(super) fn report(&self, color: Color) -> Option<String> {
        (!self.warnings.0.is_empty())
            .then(|| diagnostics::render(&self.warnings, &self.loaded.sources, color))
    }
}

/// The file without the documents of its sources.
///
/// # Errors
/// The file cannot be read, or has an error.
pub(super) fn of_file(
    path: &Path,
    kinds: Kinds,
    prior: Option<&Snapshot>,
) -> Result<Compiled, RefusedConfig> {
    let loaded = config::load(path).map_err(|mut refused| {
        config::advise(&mut refused.problems, &snapshot::tables(kinds.plugins), None);
        // Unknown names are reported together with unknown keys.
        let rest = refused.rest.take();
        if let Some(Err(more)) = rest.map(|rest| snapshot::compile(&rest, prior, kinds)) {
            refused.also(more);
        }
        RefusedConfig { problems: refused.problems, sources: refused.sources }
    })?;
    match snapshot::compile(&loaded.spec, prior, kinds) {
        Ok((snapshot, warnings)) => Ok(compiled(snapshot, loaded, warnings)),
        Err(mut problems) => {
            problems.extend(loaded.warnings);
            Err(RefusedConfig { problems, sources: loaded.sources })
        }
    }
}

fn compiled(snapshot: Snapshot, loaded: config::Loaded, mut warnings: Problems) -> Compiled {
    warnings.extend(loaded.warnings.clone());
    Compiled { snapshot, loaded: Arc::new(loaded), warnings }
}

/// What changes of documents start from: the file is not read again for them.
#[derive(Clone)]
pub(super) struct SourceBasis {
    /// The operator's file, without documents.
    file: Arc<config::Loaded>,
    /// The configuration in use.
    current: Arc<config::Loaded>,
}

impl SourceBasis {
    /// That of a configuration; `None` without sources.
    pub(super) fn of(compiled: &Compiled, file: Arc<config::Loaded>) -> Option<Self> {
        let has_sources = !compiled.snapshot.sources.is_empty();
        has_sources.then(|| Self { file, current: Arc::clone(&compiled.loaded) })
    }
}

/// A configuration with the documents of its sources, compiled.
pub(super) struct PreparedConfig {
    pub(super) basis: Option<SourceBasis>,
    pub(super) compiled: Compiled,
    /// What became of the documents, if there are sources.
    pub(super) selected: Option<Selected<()>>,
}

/// Adds the documents of the sources to a file, if there are any.
///
/// # Errors
/// A problem that belongs to no document.
pub(super) fn with_sources(
    alone: Compiled,
    kinds: Kinds,
    prior: Option<&Snapshot>,
) -> Result<(Compiled, Option<Selected<()>>), RefusedConfig> {
    if alone.snapshot.sources.is_empty() {
        return Ok((alone, None));
    }
    let selected = merge(&alone.loaded, &alone.snapshot.sources, kinds, prior, None)?;
    let (compiled, selected) = selected.split();
    Ok((compiled.map_or(alone, |compiled| *compiled), Some(selected)))
}

/// The configuration after a change of documents; `None` if it is the one in use.
///
/// # Errors
/// A problem that belongs to no document.
pub(super) fn after_change(
    basis: &SourceBasis,
    kinds: Kinds,
    prior: &Snapshot,
) -> Result<Option<PreparedConfig>, RefusedConfig> {
    let SourceBasis { file, current } = basis;
    let selected = merge(file, &prior.sources, kinds, Some(prior), Some(&current.spec))?;
    let (compiled, selected) = selected.split();
    let Some(compiled) = compiled else {
        selected.settle(&prior.sources);
        return Ok(None);
    };
    let basis = SourceBasis::of(&compiled, Arc::clone(file));
    Ok(Some(PreparedConfig { basis, compiled: *compiled, selected: Some(selected) }))
}

/// The file with the documents of its sources; `None` if that equals `current`.
fn merge(
    file: &config::Loaded,
    sources: &SourceSet,
    kinds: Kinds,
    prior: Option<&Snapshot>,
    current: Option<&Config>,
) -> Result<Selected<Option<Box<Compiled>>>, RefusedConfig> {
    let selected = source::select(sources, |documents| {
        let loaded = config::with_documents(file, documents)
            .map_err(|refused| MergeError { problems: refused.problems, sources: refused.sources })?;
        if current == Some(&loaded.spec) {
            return Ok(None);
        }
        match snapshot::compile_with_sources(&loaded.spec, prior, kinds, sources) {
            Ok((snapshot, warnings)) => Ok(Some(Box::new(compiled(snapshot, loaded, warnings)))),
            Err(problems) => Err(MergeError { problems, sources: loaded.sources }),
        }
    });
    Ok(selected?)
}
