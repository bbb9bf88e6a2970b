//! YAML reader: one document to a tree of values with places.
//!
//! The tree is built from the parser's events, not through serde: events keep a scalar's text and quotes, and
//! reading continues after a duplicate key or a bad alias. Anchors, aliases and merge keys are resolved here,
//! within limits; tags other than YAML's own are refused.

use super::{mapping_keys, yaml_errors};
use builder::{Builder, Content, DEPTH_MAX, Open, Shown, narrow};
use moongate_config::{Key, Place, Problem, Problems, Quotes, Value, ValueKind};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag, options};
use std::borrow::Cow;
use std::sync::Arc;

/// Reads `text`. `None` if it is not YAML; the reasons are in `problems`.
pub(super) fn read(file: &Arc<str>, text: &str, problems: &mut Problems) -> Option<Value> {
    let mut options = options! {
        flow_nesting_limit: DEPTH_MAX / 2,
        block_nesting_limit: DEPTH_MAX / 2,
        emit_unresolved_aliases: true,
    };
    options.set_emit_comments(false);
    let mut builder = Builder::new(file);
    for event in Parser::new_from_str_with_options(text, options) {
        let taken = match event {
            Ok((event, span)) => builder.take(event, &span),
            Err(error) => Err(yaml_errors::problem(&error, text)),
        };
        if let Err(problem) = taken {
            let place = problem.place.clone().map(|place| Place { file: file.clone(), ..place });
            builder.problems.push(Problem { place, ..problem });
            problems.extend(builder.problems);
            return None;
        }
    }
    problems.extend(builder.problems);
    Some(builder.root.unwrap_or_else(|| Value::null(Place { file: file.clone(), ..Place::nowhere() })))
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Problem::new("only one YAML document is allowed")
                        .at(&self.place(span))
                        .help("use `include` for a second file"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_ref(), span)?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.begin(Content::List(Vec::new()), style, anchor, tag.as_ref(), span);
            }
            Event::MappingStart(style, anchor, tag) => {
                let content = Content::Map { entries: Vec::new(), key: None };
                self.begin(content, style, anchor, tag.as_ref(), span);
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
            Event::Alias(anchor) => self.alias(anchor, span)?,
            Event::UnresolvedAlias(name) => {
                self.complain(yaml_errors::unknown_alias(&name), &self.place(span), None);
                self.attach(Value::null(self.place(span)), 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Cow<'_, Tag>>,
        span: &Span,
    ) -> Result<(), Problem> {
        let mut place = self.place(span);
        if span.is_empty() {
            // An absent value is reported at its key.
            if let Some(Content::Map { key: Some(key), .. }) = self.open.last().map(|open| &open.content) {
                place = key.place.clone();
            }
        }
        if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            place.width = 1;
        }
        let as_text = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
        self.check_tag(tag, span);
        let quotes = if style != ScalarStyle::Plain || as_text { Quotes::Present } else { Quotes::Absent };
        let kind = match text {
            "" | "~" | "null" | "Null" | "NULL" if quotes == Quotes::Absent => ValueKind::Null,
            _ => ValueKind::Scalar { text: text.to_owned(), quotes },
        };
        let value = Value { place, kind };
        self.remember(anchor, &value, 1, 0);
        // A null scalar can be a key: `~: x` has the key `~`.
        if let (ValueKind::Null, Some(Content::Map { key: key @ None, .. })) =
            (&value.kind, self.open.last_mut().map(|open| &mut open.content))
        {
            *key = Some(Key { place: value.place, text: text.to_owned() });
            return Ok(());
        }
        self.attach(value, 1)
    }

    fn begin(
        &mut self,
        content: Content,
        style: StructureStyle,
        anchor: usize,
        tag: Option<&Cow<'_, Tag>>,
        span: &Span,
    ) {
        self.check_tag(tag, span);
        let above = self.open.last().map(|open| &open.content);
        let (shown, place) = match (style, above) {
            (StructureStyle::Flow, _) => (Shown::Whole, Place { width: 1, ..self.place(span) }),
            (StructureStyle::Block, Some(Content::Map { key: Some(key), .. })) => {
                (Shown::ByItsKey, key.place.clone())
            }
            (StructureStyle::Block, _) => (Shown::ByItsFirst, Place { width: 1, ..self.place(span) }),
        };
        self.open.push(Open { place, shown, anchor, nodes_before: self.nodes, depth: 0, content });
    }

    fn end(&mut self, span: &Span) -> Result<(), Problem> {
        let Some(mut open) = self.open.pop() else { return Ok(()) };
        let (first, kind) = match open.content {
            Content::List(items) => (items.first().map(|item| item.place.clone()), ValueKind::List(items)),
            Content::Map { entries, .. } => {
                let first = entries.first().map(|(key, _)| key.place.clone());
                (first, ValueKind::Map(self.resolve_entries(entries)))
            }
        };
        match (open.shown, first) {
            (Shown::Whole, _) if narrow(span.end.line()) == open.place.line => {
                let end = narrow(span.end.col() + 1);
                open.place.width = end.saturating_sub(open.place.column).max(1);
            }
            (Shown::ByItsFirst, Some(first)) => open.place = first,
            _ => {}
        }
        let value = Value { place: open.place, kind };
        self.remember(open.anchor, &value, self.nodes - open.nodes_before + 1, open.depth + 1);
        if let Some(parent) = self.open.last_mut() {
            parent.depth = parent.depth.max(open.depth + 1);
        }
        self.attach(value, 1)
    }

    /// A mapping's entries with merge keys resolved and duplicate keys removed.
    fn resolve_entries(&mut self, entries: Vec<(Key, Value)>) -> Vec<(Key, Value)> {
        mapping_keys::resolve_merge_keys(entries, &mut |problem, place, key| {
            self.complain(problem, place, Some(key));
        })
    }

    fn check_tag(&mut self, tag: Option<&Cow<'_, Tag>>, span: &Span) {
        if let Some(tag) = tag.filter(|tag| tag.core_suffix().is_none() && !tag.suffix().is_empty()) {
            let span = span.tag_span().unwrap_or(*span);
            self.complain(
                Problem::new(format!("unknown tag `{}`", tag.original())),
                &self.place(&span),
                None,
            );
        }
    }
}
mod builder;
