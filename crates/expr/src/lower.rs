//! Type check of an expression tree, and replacement of its inputs by slots, in one pass. Only facts known at
//! evaluation (an element of a list, a number inside a text) are left to the evaluator. Calls are in [`call`],
//! members of `request` and `response` in [`member`].

mod call;
mod member;

use super::ExpressionPhase;
use super::names::{ROOTS, ValueType};
use super::parse::{ParseError, ParsedExpr, too_deep};
use super::slot::{self, Slot};
use cel::IdedExpr;
use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, LiteralValue, MapExpr, SourceInfo};
use moongate_config::Problem;

/// The maximum depth of a tree. Macros expand to more levels than were written.
const DEPTH_MAX: usize = 32;

/// The purpose of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpressionKind {
    Condition,
    Value,
}

/// A tree that can be evaluated.
pub(super) struct CompiledExpr {
    pub(super) root: IdedExpr,
    pub(super) slots: Vec<Slot>,
    pub(super) asks_id: bool,
}

/// Checks a tree and inserts slots; returns all problems.
pub(super) fn lower(
    parsed: ParsedExpr,
    phase: ExpressionPhase,
    kind: ExpressionKind,
) -> Result<CompiledExpr, Vec<ParseError>> {
    let ParsedExpr { mut root, info } = parsed;
    let source = info.source.chars().collect();
    let mut lowering = Lowering {
        info: &info,
        source,
        phase,
        slots: Vec::new(),
        asks_id: false,
        bound: Vec::new(),
        wrong: Vec::new(),
    };
    let value_type = lowering.node(&mut root, 0);
    lowering.check_kind(&root, value_type, kind);
    let Lowering { slots, asks_id, wrong, .. } = lowering;
    if wrong.is_empty() { Ok(CompiledExpr { root, slots, asks_id }) } else { Err(wrong) }
}

struct Lowering<'s> {
    info: &'s SourceInfo,
    source: Vec<char>,
    phase: ExpressionPhase,
    slots: Vec<Slot>,
    asks_id: bool,
    /// The names that a comprehension binds; empty outside of one.
    bound: Vec<(String, ValueType)>,
    wrong: Vec<ParseError>,
}

impl Lowering<'_> {
    fn node(&mut self, node: &mut IdedExpr, depth: usize) -> ValueType {
        if depth > DEPTH_MAX {
            // Reported once: the levels above this one have nothing to add.
            if !self.wrong.iter().any(|wrong| wrong.problem == too_deep()) {
                self.complain(node.id, 1, too_deep());
            }
            return ValueType::Any;
        }
        let id = node.id;
        match &mut node.expr {
            Expr::Literal(literal) => type_of(literal),
            Expr::Ident(name) => {
                let name = name.clone();
                self.ident(id, &name)
            }
            Expr::Select(_) => self.select(node, depth),
            Expr::Call(_) => self.call(node, depth),
            Expr::List(list) => {
                for element in &mut list.elements {
                    self.node(element, depth + 1);
                }
                ValueType::List
            }
            Expr::Map(map) => self.map(map, depth),
            Expr::Comprehension(comprehension) => self.comprehension(id, comprehension, depth),
            Expr::Struct(message) => {
                let name = message.type_name.clone();
                self.refuse(id, &name, Problem::new(format!("unknown type `{name}`")))
            }
            Expr::Unspecified => self.refuse(id, "", Problem::new("a part of the expression is missing")),
        }
    }

    fn ident(&mut self, id: u64, name: &str) -> ValueType {
        if let Some((_, value_type)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
            return *value_type;
        }
        let problem = match name {
            "request" => Problem::new("`request` is not a value")
                .help("write `request.path`, `request.headers[\"x\"]` or another of its members"),
            "response" => Problem::new("`response` is not a value")
                .help("write `response.status` or `response.headers[\"x\"]`"),
            _ => unknown("variable", name, ROOTS),
        };
        self.refuse(id, name, problem)
    }

    fn select(&mut self, node: &mut IdedExpr, depth: usize) -> ValueType {
        let id = node.id;
        let Expr::Select(select) = &node.expr else { return ValueType::Any };
        let (field, test) = (select.field.clone(), select.test);
        if let Some(member) = self.member(id, select) {
            if test {
                let problem = Problem::new("`has` takes a member of `headers`, `cookies` or `params`");
                return self.refuse(id, &field, problem.help(format!("`{field}` is always present")));
            }
            return match member {
                Some(member) => self.put_member(node, member),
                None => ValueType::Any,
            };
        }
        if let Some(group) = self.group(&select.operand) {
            return self.put_one(node, group, &field, test);
        }
        let Expr::Select(select) = &mut node.expr else { return ValueType::Any };
        match self.node(&mut select.operand, depth + 1) {
            ValueType::Map | ValueType::Any if test => ValueType::Truth,
            ValueType::Map | ValueType::Any => ValueType::Any,
            value_type => {
                self.refuse(id, &field, Problem::new(format!("{value_type} has no member `{field}`")))
            }
        }
    }

    fn put(&mut self, node: &mut IdedExpr, slot: Slot) {
        node.expr = Expr::Ident(slot::name(self.slots.len()));
        self.slots.push(slot);
    }

    fn map(&mut self, map: &mut MapExpr, depth: usize) -> ValueType {
        for entry in &mut map.entries {
            if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                let key = self.node(&mut entry.key, depth + 1);
                if !matches!(
                    key,
                    ValueType::Any
                        | ValueType::Text
                        | ValueType::Whole
                        | ValueType::Unsigned
                        | ValueType::Truth
                ) {
                    self.refuse(entry.key.id, "", Problem::new(format!("{key} cannot be a key")));
                }
                self.node(&mut entry.value, depth + 1);
            }
        }
        ValueType::Map
    }

    fn comprehension(&mut self, id: u64, loops: &mut ComprehensionExpr, depth: usize) -> ValueType {
        if !self.bound.is_empty() {
            let problem = Problem::new("nested loop").help("`all`, `exists`, `exists_one`, `map` and `filter` cannot be nested: their costs would multiply");
            return self.refuse(id, "", problem);
        }
        let range = self.node(&mut loops.iter_range, depth + 1);
        if !matches!(range, ValueType::List | ValueType::Map | ValueType::Any) {
            let problem = Problem::new(format!("{range} cannot be looped over"));
            self.refuse(
                id,
                "",
                problem.help("a list can, as in `[\"a\", \"b\"].exists(x, request.path.contains(x))`"),
            );
        }
        let start = self.node(&mut loops.accu_init, depth + 1);
        self.bound = vec![(loops.accu_var.clone(), start), (loops.iter_var.clone(), ValueType::Any)];
        self.bound.extend(loops.iter_var2.clone().map(|name| (name, ValueType::Any)));
        self.node(&mut loops.loop_cond, depth + 1);
        self.node(&mut loops.loop_step, depth + 1);
        let value_type = self.node(&mut loops.result, depth + 1);
        self.bound.clear();
        value_type
    }

    /// Whether the type of the whole fits its purpose.
    fn check_kind(&mut self, root: &IdedExpr, value_type: ValueType, kind: ExpressionKind) {
        let problem = match kind {
            ExpressionKind::Condition if !value_type.fits(ValueType::Truth) => {
                Problem::new(format!("a condition must be true or false, but this is {value_type}"))
                    .help("compare the value with another, as in `request.headers[\"x-team\"] == \"blue\"`")
            }
            ExpressionKind::Value
                if !(matches!(value_type, ValueType::Any | ValueType::Text | ValueType::Truth)
                    || value_type.is_number()) =>
            {
                Problem::new(format!(
                    "a value must be text, a number or true or false, but this is {value_type}"
                ))
            }
            _ => return,
        };
        let _ = root;
        let width = self.source.len().max(1);
        self.wrong.push(ParseError { at: 0, width, problem });
    }

    /// Records a problem at `word`, near the place of a node.
    fn refuse(&mut self, id: u64, word: &str, problem: Problem) -> ValueType {
        let width = word.chars().count();
        let near = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let at = self.find(word, near).unwrap_or(near);
        self.wrong.push(ParseError { at, width: width.max(1), problem });
        ValueType::Any
    }

    fn complain(&mut self, id: u64, width: usize, problem: Problem) {
        let at = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        self.wrong.push(ParseError { at, width, problem });
    }

    /// The start of `word` nearest to `near`: a node's own place is that of its dot, bracket or operator.
    fn find(&self, word: &str, near: usize) -> Option<usize> {
        let word: Vec<char> = word.chars().collect();
        if word.is_empty() {
            return None;
        }
        let starts = self.source.windows(word.len()).enumerate().filter(|(_, window)| *window == word);
        starts
            .map(|(at, _)| at)
            .min_by_key(|at| if *at >= near { at - near } else { near.saturating_sub(at + word.len()) })
    }
}

fn type_of(literal: &LiteralValue) -> ValueType {
    match literal {
        LiteralValue::Boolean(_) => ValueType::Truth,
        LiteralValue::Bytes(_) => ValueType::Bytes,
        LiteralValue::Double(_) => ValueType::Fraction,
        LiteralValue::Int(_) => ValueType::Whole,
        LiteralValue::Null => ValueType::Null,
        LiteralValue::String(_) => ValueType::Text,
        LiteralValue::UInt(_) => ValueType::Unsigned,
    }
}

/// The text of a literal.
fn literal(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Problem {
    let known: Vec<_> = known.into_iter().collect();
    let problem = Problem::new(format!("unknown {what} `{name}`")).suggest(name, known.iter().copied());
    match problem.label {
        Some(_) => problem,
        None => problem.help(format!("known: {}", known.join(", "))),
    }
}
