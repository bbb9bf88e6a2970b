//! Operators and functions: their operand and result types.

use super::{Lowering, literal, unknown};
use crate::functions::{Network, Pattern};
use crate::names::{FUNCTIONS, Function, ValueType};
use crate::slot::Slot;
use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, operators};
use moongate_config::Problem;

/// The macros, which are called like functions.
const LOOPS: [&str; 6] = ["all", "exists", "exists_one", "map", "filter", "has"];

impl Lowering<'_> {
    pub(super) fn call(&mut self, node: &mut IdedExpr, depth: usize) -> ValueType {
        let id = node.id;
        let Expr::Call(call) = &mut node.expr else { return ValueType::Any };
        let name = call.func_name.clone();
        if call.target.is_none() {
            match (name.as_str(), call.args.as_mut_slice()) {
                (operators::INDEX, [_, _]) => return self.index(node, depth),
                (operators::IN, [_, _]) => return self.contained(node, depth),
                (operators::CONDITIONAL, [condition, then, otherwise]) => {
                    self.expect(condition, depth, ValueType::Truth, "the condition of `?`");
                    let (then, otherwise) = (self.node(then, depth + 1), self.node(otherwise, depth + 1));
                    return if then == otherwise { then } else { ValueType::Any };
                }
                (operators::LOGICAL_AND | operators::LOGICAL_OR, [left, right]) => {
                    let (operator, inner) = (name.trim_matches('_'), depth_of(&name, left, depth));
                    self.expect(left, inner, ValueType::Truth, &format!("the left operand of `{operator}`"));
                    let inner = depth_of(&name, right, depth);
                    self.expect(
                        right,
                        inner,
                        ValueType::Truth,
                        &format!("the right operand of `{operator}`"),
                    );
                    return ValueType::Truth;
                }
                (operators::LOGICAL_NOT, [operand]) => {
                    self.expect(operand, depth, ValueType::Truth, "the operand of `!`");
                    return ValueType::Truth;
                }
                (operators::NOT_STRICTLY_FALSE, [operand]) => {
                    self.node(operand, depth + 1);
                    return ValueType::Truth;
                }
                (operators::NEGATE, [operand]) => {
                    let value_type = self.node(operand, depth + 1);
                    if !matches!(value_type, ValueType::Any | ValueType::Whole | ValueType::Fraction) {
                        return self.refuse(id, "-", Problem::new(format!("{value_type} cannot be negated")));
                    }
                    return value_type;
                }
                (_, [left, right]) if name.starts_with('_') => {
                    let sorts = (self.node(left, depth + 1), self.node(right, depth + 1));
                    return self.binary(id, name.trim_matches('_'), sorts);
                }
                _ => {}
            }
        }
        self.function(node, depth)
    }

    fn expect(&mut self, node: &mut IdedExpr, depth: usize, wanted: ValueType, what: &str) {
        let value_type = self.node(node, depth + 1);
        if !value_type.fits(wanted) {
            let problem = Problem::new(format!("{what} must be {wanted}, but this is {value_type}"));
            self.refuse(node.id, "", problem);
        }
    }

    /// `a == b`, `a < b`, `a + b` and their like.
    fn binary(&mut self, id: u64, operator: &str, (left, right): (ValueType, ValueType)) -> ValueType {
        let known = left != ValueType::Any && right != ValueType::Any;
        let alike = left == right;
        let numbers = left.is_number() && right.is_number();
        let (fits, gives) = match operator {
            "==" | "!=" => {
                let compared = !matches!(left, ValueType::Texts | ValueType::Network);
                let null = left == ValueType::Null || right == ValueType::Null;
                (!known || (alike && compared) || numbers || null, ValueType::Truth)
            }
            "<" | "<=" | ">" | ">=" => {
                let ordered = matches!(left, ValueType::Text | ValueType::Bytes | ValueType::Truth);
                (!known || (alike && ordered) || numbers, ValueType::Truth)
            }
            "+" => {
                let joined =
                    left.is_number() || matches!(left, ValueType::Text | ValueType::Bytes | ValueType::List);
                (!known || (alike && joined), if known { left } else { ValueType::Any })
            }
            _ => (!known || (alike && left.is_number()), if known { left } else { ValueType::Any }),
        };
        if fits {
            return gives;
        }
        let problem = Problem::new(format!("`{operator}` is not defined for {left} and {right}"));
        self.refuse(
            id,
            operator,
            match (left, right) {
                (ValueType::Text, other) | (other, ValueType::Text) if other.is_number() => {
                    problem.help("`int(…)` converts text to a number, and `string(…)` a number to text")
                }
                _ => problem,
            },
        );
        gives
    }

    /// `group["x"]`, `list[0]`, `map["x"]`.
    fn index(&mut self, node: &mut IdedExpr, depth: usize) -> ValueType {
        let id = node.id;
        let Expr::Call(CallExpr { args, .. }) = &mut node.expr else { return ValueType::Any };
        let [of, by] = args.as_mut_slice() else { return ValueType::Any };
        if let (Some(group), Some(name)) = (self.group(of), literal(by)) {
            let name = name.to_owned();
            return self.put_one(node, group, &name, false);
        }
        let (of, by) = (self.node(of, depth + 1), self.node(by, depth + 1));
        match (of, by) {
            (ValueType::Texts, ValueType::Text | ValueType::Any) => ValueType::Text,
            (ValueType::List, ValueType::Any) | (ValueType::Map | ValueType::Any, _) => ValueType::Any,
            (ValueType::List, by) if by.is_number() => ValueType::Any,
            _ => self.refuse(id, "[", Problem::new(format!("{of} has no member by {by}"))),
        }
    }

    /// `"x" in group`, `x in list`.
    fn contained(&mut self, node: &mut IdedExpr, depth: usize) -> ValueType {
        let id = node.id;
        let Expr::Call(CallExpr { args, .. }) = &mut node.expr else { return ValueType::Any };
        let [one, all] = args.as_mut_slice() else { return ValueType::Any };
        if let (Some(name), Some(group)) = (literal(one), self.group(all)) {
            let name = name.to_owned();
            return self.put_one(node, group, &name, true);
        }
        let (one, all) = (self.node(one, depth + 1), self.node(all, depth + 1));
        match (one, all) {
            (ValueType::Text | ValueType::Any, ValueType::Texts)
            | (_, ValueType::List | ValueType::Map | ValueType::Any) => ValueType::Truth,
            (_, ValueType::Texts) => {
                self.refuse(id, "in", Problem::new(format!("names must be text, but this is {one}")))
            }
            (ValueType::Text, ValueType::Text) => {
                let problem = Problem::new("`in` needs a list, but this is text");
                self.refuse(id, "in", problem.help("write `text.contains(\"part\")`"))
            }
            _ => self.refuse(id, "in", Problem::new(format!("`in` needs a list, but this is {all}"))),
        }
    }

    fn function(&mut self, node: &mut IdedExpr, depth: usize) -> ValueType {
        let id = node.id;
        let Expr::Call(call) = &mut node.expr else { return ValueType::Any };
        let name = call.func_name.clone();
        let named = || FUNCTIONS.iter().filter(|function| function.name == name);
        if named().next().is_none() {
            let known = FUNCTIONS.iter().map(|function| function.name).chain(LOOPS);
            let mut known: Vec<_> = known.collect();
            known.dedup();
            return self.refuse(id, &name, unknown("function", &name, known));
        }
        let on = call.target.as_mut().map(|target| self.node(target, depth + 1));
        let patterns = match (name.as_str(), on, call.args.as_mut_slice()) {
            ("matches", Some(_), [pattern]) | ("matches", None, [_, pattern]) => Some(pattern),
            _ => None,
        };
        if let Some(pattern) = patterns {
            self.pattern(pattern);
        }
        if name == "cidr" {
            return self.network(node);
        }
        let Expr::Call(call) = &mut node.expr else { return ValueType::Any };
        let takes: Vec<_> = call.args.iter_mut().map(|arg| self.argument(arg, depth)).collect();
        let fits = |function: &&Function| {
            let target = match (function.on, on) {
                (None, None) => true,
                (Some(wanted), Some(value_type)) => value_type.fits(wanted),
                _ => false,
            };
            target
                && function.takes.len() == takes.len()
                && function.takes.iter().zip(&takes).all(|(wanted, value_type)| value_type.fits(*wanted))
        };
        let mut fitting = named().filter(fits).map(|function| function.gives);
        match (fitting.next(), named().map(usage).collect::<Vec<_>>()) {
            (Some(first), _) if fitting.all(|other| other == first) => first,
            (Some(_), _) => ValueType::Any,
            (None, mut usages) => {
                usages.dedup();
                let given: Vec<_> = on.iter().chain(&takes).map(ToString::to_string).collect();
                let problem = match given.is_empty() {
                    true => Problem::new(format!("`{name}` is called without arguments")),
                    false => Problem::new(format!("`{name}` does not take {}", given.join(" and "))),
                };
                self.refuse(id, &name, problem.help(format!("use {}", usages.join(", "))))
            }
        }
    }

    /// An argument; the replacement of a pattern counts as text.
    fn argument(&mut self, node: &mut IdedExpr, depth: usize) -> ValueType {
        match &node.expr {
            Expr::Ident(name)
                if name.starts_with('@') && !self.bound.iter().any(|(bound, _)| bound == name) =>
            {
                ValueType::Text
            }
            _ => self.node(node, depth + 1),
        }
    }

    fn pattern(&mut self, node: &mut IdedExpr) {
        let Some(text) = literal(node).map(str::to_owned) else {
            let problem = Problem::new("a pattern must be a literal").help(
                "patterns are compiled once, with the configuration: write a quoted text, as in `request.path.matches(\"^/v[0-9]+/\")`",
            );
            self.refuse(node.id, "", problem);
            return;
        };
        match Pattern::parse(&text) {
            Ok(pattern) => self.put(node, Slot::Pattern(pattern)),
            Err(problem) => {
                self.refuse(node.id, "", problem);
            }
        }
    }

    fn network(&mut self, node: &mut IdedExpr) -> ValueType {
        let id = node.id;
        let Expr::Call(call) = &node.expr else { return ValueType::Any };
        let text = match (&call.target, call.args.as_slice()) {
            (None, [arg]) => literal(arg),
            _ => None,
        };
        let Some(text) = text else {
            let problem = Problem::new("`cidr` takes one literal network");
            return self.refuse(
                id,
                "cidr",
                problem.help("as in `cidr(\"10.0.0.0/8\").containsIP(request.client_ip)`"),
            );
        };
        match Network::parse(text) {
            Ok(network) => {
                self.put(node, Slot::Network(network));
                ValueType::Network
            }
            Err(problem) => self.refuse(id, "cidr", problem),
        }
    }
}

/// A chain of the same connective is one level, in any shape of the parser's tree.
fn depth_of(name: &str, node: &IdedExpr, depth: usize) -> usize {
    match &node.expr {
        Expr::Call(call) if call.func_name == name => depth.saturating_sub(1),
        _ => depth,
    }
}

/// The syntax of a function.
fn usage(function: &Function) -> String {
    let args = vec!["…"; function.takes.len()].join(", ");
    match function.on {
        Some(_) => format!("`x.{}({args})`", function.name),
        None => format!("`{}({args})`", function.name),
    }
}
