//! A rule of the table, read from a route of the configuration, and the request facts that it matches.

use super::{HostPattern, PathPattern, ValuePattern};
use crate::config::{OneOrMany, PathParameters, Route};
use http::{HeaderMap, HeaderName, Method};
use moongate_config::{Placed, Problem, Problems};
use moongate_expr::{Expression, ExpressionPhase, Facts};
use moongate_sdk::Request;

/// A rule that selects `target`; an empty list matches any request.
#[derive(Clone, Debug)]
pub struct Rule<R> {
    /// The route's name, for explanations.
    pub name: String,
    /// Any of these hosts.
    pub hosts: Vec<HostPattern>,
    /// Any of these paths.
    pub paths: Vec<PathPattern>,
    /// The form of a request's path for this rule.
    pub path_parameters: PathParameters,
    /// Any of these methods. GET does not include HEAD.
    pub methods: Vec<Method>,
    /// All of these header fields.
    pub headers: Vec<(HeaderName, ValuePattern)>,
    /// All of these parameters, by their decoded names.
    pub query: Vec<(String, ValuePattern)>,
    /// Any of these listeners, by name.
    pub listeners: Vec<String>,
    /// An expression that must be true too.
    pub when: Option<Expression>,
    /// The result of the lookup.
    pub target: R,
}

/// The facts of a request that rules match.
#[derive(Clone, Copy, Debug)]
pub struct RequestMatch<'a> {
    /// The request in the form of [`super::Target`]: `path` is without the parameters of segments. The route
    /// is unknown.
    pub request: Request<'a>,
    /// The same path with its parameters.
    pub path_with_parameters: &'a str,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

impl<'a> RequestMatch<'a> {
    /// The requested host, with or without port, in any case; `None` without one.
    pub(super) fn host(&self) -> Option<&'a str> {
        Some(self.request.host).filter(|host| !host.is_empty())
    }

    /// Whether a segment of the path has parameters: the path without them is shorter.
    pub(super) fn has_parameters(&self) -> bool {
        self.request.path.len() != self.path_with_parameters.len()
    }

    /// The form of the path for a rule.
    pub(super) fn path_for(&self, parameters: PathParameters) -> &'a str {
        match parameters {
            PathParameters::Keep => self.path_with_parameters,
            PathParameters::Ignore | PathParameters::Reject => self.request.path,
        }
    }

    /// The facts for a rule's expression, before the route is known.
    pub(super) fn facts(&self, parameters: PathParameters) -> Facts<'a> {
        let request = Request { path: self.path_for(parameters), ..self.request };
        Facts { request, headers: self.headers, id: None, response: None }
    }
}

impl<R> Rule<R> {
    /// A rule that every request matches.
    pub fn any(name: impl Into<String>, target: R) -> Self {
        Self {
            name: name.into(),
            hosts: Vec::new(),
            paths: Vec::new(),
            path_parameters: PathParameters::default(),
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            listeners: Vec::new(),
            when: None,
            target,
        }
    }

    /// Reads the matching part of a route. The caller checks that its listeners exist.
    ///
    /// # Errors
    /// Every invalid host, path, method, header, value and expression, each at its place.
    pub fn read(name: impl Into<String>, route: &Route, target: R) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        for list in [&route.host, &route.path] {
            if matches!(list, Some(OneOrMany::Many(many)) if many.is_empty()) {
                problems.push(
                    Problem::new("an empty list of hosts or paths matches nothing")
                        .help("remove the key to match all"),
                );
            }
        }
        let rule = Self {
            hosts: each(&mut problems, texts(route.host.as_ref()), HostPattern::parse),
            paths: each(&mut problems, texts(route.path.as_ref()), |text| {
                PathPattern::parse_for(text, route.path_parameters)
            }),
            path_parameters: route.path_parameters,
            methods: each(&mut problems, &route.methods, method),
            headers: pairs(&mut problems, &route.headers, header),
            query: pairs(&mut problems, &route.query, |name| Ok(name.to_owned())),
            listeners: route.listeners.iter().map(|name| name.value.clone()).collect(),
            when: route
                .when
                .as_ref()
                .and_then(|when| problems.keep(Expression::condition(when, ExpressionPhase::Route))),
            ..Self::any(name, target)
        };
        if problems.refuse() { Err(problems) } else { Ok(rule) }
    }
}

fn texts(list: Option<&OneOrMany<Placed<String>>>) -> &[Placed<String>] {
    match list {
        None => &[],
        Some(OneOrMany::One(one)) => std::slice::from_ref(one),
        Some(OneOrMany::Many(many)) => many,
    }
}

fn each<T>(
    problems: &mut Problems,
    texts: &[Placed<String>],
    parse: impl Fn(&str) -> Result<T, Problem>,
) -> Vec<T> {
    let read = |text: &Placed<String>| parse(text).map_err(|problem| problem.at(&text.place).into());
    texts.iter().filter_map(|text| problems.keep(read(text))).collect()
}

fn pairs<'a, N>(
    problems: &mut Problems,
    pairs: impl IntoIterator<Item = (&'a String, &'a Placed<String>)>,
    parse: impl Fn(&str) -> Result<N, Problem>,
) -> Vec<(N, ValuePattern)> {
    let read = |name: &String, text: &Placed<String>| {
        let pair = parse(name).and_then(|name| Ok((name, ValuePattern::parse(text)?)));
        pair.map_err(|problem| problem.at(&text.place).into())
    };
    pairs.into_iter().filter_map(|(name, text)| problems.keep(read(name, text))).collect()
}

fn method(text: &str) -> Result<Method, Problem> {
    let upper = text.to_ascii_uppercase();
    let problem = || Problem::new(format!("`{text}` is not a method"));
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if upper == text => Ok(method),
        Ok(_) => Err(problem().label(format!("did you mean `{upper}`?")).help("methods are case-sensitive")),
        Err(_) => Err(problem().help("use a method such as `GET`")),
    }
}

fn header(text: &str) -> Result<HeaderName, Problem> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        Problem::new(format!("`{text}` is not a header name")).help("use a name such as `X-Beta`")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::{Key, Place, Quotes, Value, ValueKind};

    fn value(kind: ValueKind) -> Value {
        let place = Place { file: "test.yaml".into(), line: 1, column: 1, width: 1, path: "".into() };
        Value { place, kind }
    }

    fn text(text: &str) -> Value {
        value(ValueKind::Scalar { text: text.to_owned(), quotes: Quotes::Present })
    }

    fn list(texts: &[&str]) -> Value {
        value(ValueKind::List(texts.iter().copied().map(text).collect()))
    }

    fn map(pairs: &[(&str, Value)]) -> Value {
        let key = |text: &str| Key { place: value(ValueKind::Null).place, text: text.to_owned() };
        value(ValueKind::Map(pairs.iter().map(|(name, value)| (key(name), value.clone())).collect()))
    }

    fn read(pairs: &[(&str, Value)]) -> Result<Rule<()>, Problems> {
        let mut pairs = pairs.to_vec();
        pairs.push(("upstream", text("u")));
        Rule::read("r", &map(&pairs).read::<Route>().unwrap(), ())
    }

    #[test]
    fn a_route_is_read_into_a_rule() {
        let rule = read(&[
            ("host", text("*.Example.com")),
            ("path", list(&["/a/", "=/b"])),
            ("methods", list(&["GET"])),
            ("headers", map(&[("X-Beta", text("~1"))])),
            ("query", map(&[("v", text("*"))])),
            ("listeners", list(&["web"])),
        ]);
        let rule = rule.unwrap();
        let paths: Vec<_> = rule.paths.iter().map(ToString::to_string).collect();
        assert_eq!(
            (rule.hosts[0].to_string().as_str(), paths),
            ("*.example.com", vec!["/a".into(), "=/b".into()])
        );
        assert_eq!((rule.methods, rule.listeners), (vec![Method::GET], vec!["web".to_owned()]));
        assert_eq!((rule.headers[0].0.as_str(), rule.query[0].0.as_str()), ("x-beta", "v"));
    }

    #[test]
    fn every_mistake_of_a_route_is_reported_at_once() {
        let problems = read(&[
            ("host", list(&["a:80", "ok.example"])),
            ("path", text("acts")),
            ("methods", list(&["get", "G T"])),
            ("headers", map(&[("x y", text("1")), ("x", text("~("))])),
        ]);
        let problems = problems.unwrap_err();
        assert_eq!(problems.0.len(), 6);
        assert!(problems.0.iter().all(|problem| problem.place.is_some()));
        assert_eq!(problems.0[2].label.as_deref(), Some("did you mean `GET`?"));
    }
}
