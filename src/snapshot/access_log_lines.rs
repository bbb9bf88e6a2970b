//! Compilation of the lines of the access log: fields, template, and rules of sampling.

use crate::config::{self, LogFormat, SampleRule};
use crate::telemetry::access_log::{
    Field, Format, LineSettings, SampleRatio, Sampling, SamplingRule, Template,
};
use moongate_config::{Placed, Problem, Problems};
use std::collections::HashSet;

/// The lines as written; `None` where there is no access log.
pub(super) fn compile(
    written: &config::AccessLog,
    routes: &[Placed<config::Route>],
    problems: &mut Problems,
) -> Option<LineSettings> {
    let format = problems.keep(format(written)).flatten();
    let routes: HashSet<&str> = if written.sample.is_empty() {
        HashSet::new()
    } else {
        routes.iter().filter_map(|route| Some(route.name.as_ref()?.as_str())).collect()
    };
    let mut rules = Vec::new();
    for rule in &written.sample {
        rules.extend(problems.keep(self::rule(rule, &routes)));
    }
    let sampling = (!rules.is_empty()).then_some(Sampling(rules));
    format.map(|format| LineSettings { format, sampling })
}

fn format(written: &config::AccessLog) -> Result<Option<Format>, Problems> {
    if let Some(template) = &written.template {
        if let Some(fields) = &written.fields {
            let problem = Problem::new("a line has either `fields` or a `template`");
            return Err(problem.at(&fields.place).help("`fields` selects the fields of a JSON line").into());
        }
        if written.format != LogFormat::Json {
            let problem = Problem::new("the `template` takes the place of a `format`");
            return Err(problem.at(&template.place).help("remove `format` or `template`").into());
        }
        let template = Template::parse(template).map_err(|problem| problem.at(&template.place))?;
        return Ok(Some(Format::Template(template)));
    }
    match (&written.fields, written.format) {
        (Some(fields), LogFormat::Json) => selected(fields).map(|fields| Some(Format::Json(fields))),
        (Some(fields), _) => {
            let problem =
                Problem::new("`fields` selects the fields of a JSON line, and `format` is not `json`");
            Err(problem.at(&fields.place).help("`template` selects the fields of a line of text").into())
        }
        (None, LogFormat::Json) => Ok(Some(Format::Json(Field::ALL.into()))),
        (None, LogFormat::Combined) => Ok(Some(Format::Combined)),
        (None, LogFormat::Off) => Ok(None),
    }
}

fn selected(fields: &Placed<Vec<Placed<Field>>>) -> Result<Box<[Field]>, Problems> {
    let mut problems = Problems::default();
    if fields.is_empty() {
        problems.push(Problem::new("a line has at least one field").at(&fields.place));
    }
    let mut seen = HashSet::new();
    for field in fields.iter().filter(|field| !seen.insert(field.value)) {
        problems.push(Problem::new(format!("field `{}` is listed twice", field.name())).at(&field.place));
    }
    if !problems.0.is_empty() {
        return Err(problems);
    }
    Ok(fields.iter().map(|field| field.value).collect())
}

fn rule(rule: &SampleRule, routes: &HashSet<&str>) -> Result<SamplingRule, Problems> {
    let mut problems = Problems::default();
    let names = rule.route.as_ref().map_or(&[][..], |names| names.as_slice());
    for name in names.iter().filter(|name| !routes.contains(name.as_str())) {
        let problem = Problem::new(format!("unknown route `{}`", name.value)).at(&name.place);
        problems.push(problem.suggest(name, routes.iter().copied()));
    }
    if !problems.0.is_empty() {
        return Err(problems);
    }
    let statuses = rule.status.as_ref().map_or(&[][..], |statuses| statuses.as_slice());
    Ok(SamplingRule {
        routes: names.iter().map(|name| name.as_str().into()).collect(),
        statuses: statuses.iter().map(|status| status.0.clone()).collect(),
        ratio: SampleRatio::new(rule.ratio.0),
    })
}
