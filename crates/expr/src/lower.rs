//! Type check of an expression tree, and replacement of its inputs by slots, in one pass. Only facts known at
//! evaluation (an element of a list, a number inside a text) are left to the evaluator. Calls are in [`call`],
//! members of `request` and `response` in [`member`].

mod call;
mod member;

use super::ExpressionPhase;
use super::names::{ROOTS, Sort};
use super::parse::{ParseError, Parsed, too_deep};
use super::slot::{self, Slot};
use cel::IdedExpr;
use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, LiteralValue, MapExpr, SourceInfo};
use moongate_config::Problem;

/// The maximum depth of a tree. Macros expand to more levels than were written.
const DEPTH_MAX: usize = 32;

/// The purpose of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
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
    parsed: Parsed,
    stage: ExpressionPhase,
    wanted: Wanted,
) -> Result<CompiledExpr, Vec<ParseError>> {
    let Parsed { mut root, info } = parsed;
    let source = info.source.chars().collect();
    let mut lowering = Lowering {
        info: &info,
        source,
        stage,
        slots: Vec::new(),
        asks_id: false,
        bound: Vec::new(),
        wrong: Vec::new(),
    };
    let sort = lowering.node(&mut root, 0);
    lowering.judge(&root, sort, wanted);
    let Lowering { slots, asks_id, wrong, .. } = lowering;
    if wrong.is_empty() { Ok(CompiledExpr { root, slots, asks_id }) } else { Err(wrong) }
}

struct Lowering<'s> {
    info: &'s SourceInfo,
    source: Vec<char>,
    stage: ExpressionPhase,
    slots: Vec<Slot>,
    asks_id: bool,
    /// The names that a comprehension binds; empty outside of one.
    bound: Vec<(String, Sort)>,
    wrong: Vec<ParseError>,
}

impl Lowering<'_> {
    fn node(&mut self, node: &mut IdedExpr, depth: usize) -> Sort {
        if depth > DEPTH_MAX {
            // Reported once: the levels above this one have nothing to add.
            if !self.wrong.iter().any(|wrong| wrong.problem == too_deep()) {
                self.complain(node.id, 1, too_deep());
            }
            return Sort::Any;
        }
        let id = node.id;
        match &mut node.expr {
            Expr::Literal(literal) => sort_of(literal),
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
                Sort::List
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

    fn ident(&mut self, id: u64, name: &str) -> Sort {
        if let Some((_, sort)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
            return *sort;
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

    fn select(&mut self, node: &mut IdedExpr, depth: usize) -> Sort {
        let id = node.id;
        let Expr::Select(select) = &node.expr else { return Sort::Any };
        let (field, test) = (select.field.clone(), select.test);
        if let Some(member) = self.member(id, select) {
            if test {
                let problem = Problem::new("`has` takes a member of `headers`, `cookies` or `params`");
                return self.refuse(id, &field, problem.help(format!("`{field}` is always present")));
            }
            return match member {
                Some(member) => self.put_member(node, member),
                None => Sort::Any,
            };
        }
        if let Some(group) = self.group(&select.operand) {
            return self.put_one(node, group, &field, test);
        }
        let Expr::Select(select) = &mut node.expr else { return Sort::Any };
        match self.node(&mut select.operand, depth + 1) {
            Sort::Map | Sort::Any if test => Sort::Truth,
            Sort::Map | Sort::Any => Sort::Any,
            sort => self.refuse(id, &field, Problem::new(format!("{sort} has no member `{field}`"))),
        }
    }

    fn put(&mut self, node: &mut IdedExpr, slot: Slot) {
        node.expr = Expr::Ident(slot::name(self.slots.len()));
        self.slots.push(slot);
    }

    fn map(&mut self, map: &mut MapExpr, depth: usize) -> Sort {
        for entry in &mut map.entries {
            if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                let key = self.node(&mut entry.key, depth + 1);
                if !matches!(key, Sort::Any | Sort::Text | Sort::Whole | Sort::Unsigned | Sort::Truth) {
                    self.refuse(entry.key.id, "", Problem::new(format!("{key} cannot be a key")));
                }
                self.node(&mut entry.value, depth + 1);
            }
        }
        Sort::Map
    }

    fn comprehension(&mut self, id: u64, loops: &mut ComprehensionExpr, depth: usize) -> Sort {
        if !self.bound.is_empty() {
            let problem = Problem::new("a loop inside a loop").help("`all`, `exists`, `exists_one`, `map` and `filter` cannot be nested: their costs would multiply");
            return self.refuse(id, "", problem);
        }
        let range = self.node(&mut loops.iter_range, depth + 1);
        if !matches!(range, Sort::List | Sort::Map | Sort::Any) {
            let problem = Problem::new(format!("{range} cannot be looped over"));
            self.refuse(
                id,
                "",
                problem.help("a list can, as in `[\"a\", \"b\"].exists(x, request.path.contains(x))`"),
            );
        }
        let start = self.node(&mut loops.accu_init, depth + 1);
        self.bound = vec![(loops.accu_var.clone(), start), (loops.iter_var.clone(), Sort::Any)];
        self.bound.extend(loops.iter_var2.clone().map(|name| (name, Sort::Any)));
        self.node(&mut loops.loop_cond, depth + 1);
        self.node(&mut loops.loop_step, depth + 1);
        let sort = self.node(&mut loops.result, depth + 1);
        self.bound.clear();
        sort
    }

    /// Whether the type of the whole fits its purpose.
    fn judge(&mut self, root: &IdedExpr, sort: Sort, wanted: Wanted) {
        let problem = match wanted {
            Wanted::Condition if !sort.fits(Sort::Truth) => {
                Problem::new(format!("a condition must be true or false, but this is {sort}"))
                    .help("compare it with something, as in `request.headers[\"x-team\"] == \"blue\"`")
            }
            Wanted::Value if !(matches!(sort, Sort::Any | Sort::Text | Sort::Truth) || sort.is_number()) => {
                Problem::new(format!("a value must be text, a number or true or false, but this is {sort}"))
            }
            _ => return,
        };
        let _ = root;
        let width = self.source.len().max(1);
        self.wrong.push(ParseError { at: 0, width, problem });
    }

    /// Records a problem at `word`, near the place of a node.
    fn refuse(&mut self, id: u64, word: &str, problem: Problem) -> Sort {
        let width = word.chars().count();
        let near = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let at = self.find(word, near).unwrap_or(near);
        self.wrong.push(ParseError { at, width: width.max(1), problem });
        Sort::Any
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

fn sort_of(literal: &LiteralValue) -> Sort {
    match literal {
        LiteralValue::Boolean(_) => Sort::Truth,
        LiteralValue::Bytes(_) => Sort::Bytes,
        LiteralValue::Double(_) => Sort::Fraction,
        LiteralValue::Int(_) => Sort::Whole,
        LiteralValue::Null => Sort::Null,
        LiteralValue::String(_) => Sort::Text,
        LiteralValue::UInt(_) => Sort::Unsigned,
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
