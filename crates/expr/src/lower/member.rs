//! Members of `request` and `response`, and their slots.

use super::{Lowering, unknown};
use crate::fields::Group;
use crate::names::{BRANCHES, Member, REQUEST, RESPONSE, ValueType};
use crate::slot::{Fact, Name, Slot};
use cel::IdedExpr;
use cel::common::ast::{Expr, SelectExpr};
use http::HeaderName;
use moongate_config::Problem;
use std::borrow::Cow;

impl Lowering<'_> {
    /// The meaning of `request.x` and `response.x`; `Some(None)` if there is none, which was reported.
    pub(super) fn member(&mut self, id: u64, select: &SelectExpr) -> Option<Option<Member>> {
        let found = self.lookup(select)?;
        let Some(member) = found else {
            self.refuse_member(id, select);
            return Some(None);
        };
        if let Some(reason) = member.unknown_in(self.phase) {
            let problem = Problem::new(format!("`{}` cannot be read here", select.field)).label(reason);
            self.refuse(id, &select.field, problem);
            return Some(None);
        }
        Some(Some(member))
    }

    /// Reports an unknown member.
    fn refuse_member(&mut self, id: u64, select: &SelectExpr) {
        let Some((root, path)) = way(select) else { return };
        if BRANCHES.contains(&&*path) && root == "request" {
            let problem = Problem::new(format!("`request.{path}` is not a value"));
            let below = REQUEST.iter().filter(|(name, _)| name.starts_with(&*path));
            let known: Vec<_> = below.map(|(name, _)| format!("request.{name}")).collect();
            self.refuse(id, &select.field, problem.help(format!("known: {}", known.join(", "))));
            return;
        }
        let members = if root == "request" { &REQUEST[..] } else { &RESPONSE[..] };
        let known: Vec<_> = members.iter().map(|(name, _)| *name).collect();
        let problem = unknown(&format!("member of `{root}`"), &path, known.iter().copied());
        self.refuse(id, &select.field, problem);
    }

    /// As [`Self::member`], without reporting problems.
    fn lookup(&self, select: &SelectExpr) -> Option<Option<Member>> {
        let (root, path) = way(select)?;
        let members = match root {
            _ if self.bound.iter().any(|(bound, _)| bound == root) => return None,
            "request" => &REQUEST[..],
            "response" => &RESPONSE[..],
            _ => return None,
        };
        Some(members.iter().find(|(name, _)| *name == path).map(|(_, member)| *member))
    }

    /// The group of a node. A group that cannot be read here is `None`: it is reported as a member.
    pub(super) fn group(&self, node: &IdedExpr) -> Option<Group> {
        let Expr::Select(select) = &node.expr else { return None };
        match self.lookup(select)?? {
            member @ Member::Group(group) if !select.test && member.unknown_in(self.phase).is_none() => {
                Some(group)
            }
            _ => None,
        }
    }

    pub(super) fn put_member(&mut self, node: &mut IdedExpr, member: Member) -> ValueType {
        match member {
            Member::Fact(fact, value_type) => {
                self.asks_id |= fact == Fact::Id;
                self.put(node, Slot::Fact(fact));
                value_type
            }
            Member::Group(group) => {
                self.put(node, Slot::All(group));
                ValueType::Texts
            }
        }
    }

    /// Replaces a node by a slot for one member of a group, or for its presence.
    pub(super) fn put_one(&mut self, node: &mut IdedExpr, group: Group, name: &str, test: bool) -> ValueType {
        let header = HeaderName::from_bytes(name.as_bytes());
        let name = match (group, header) {
            (Group::Cookies, _) => Name::Cookie(name.into()),
            (Group::Params, _) => Name::Param(name.into()),
            (Group::Headers, Ok(header)) => Name::Header(header),
            (Group::ResponseHeaders, Ok(header)) => Name::ResponseHeader(header),
            (_, Err(_)) => {
                let problem = Problem::new(format!("`{name}` is not a field name"));
                let problem = problem.help("a name has letters, digits and `-`, as in `x-team`");
                return self.refuse(node.id, name, problem);
            }
        };
        self.put(node, if test { Slot::Has(name) } else { Slot::One(name) });
        if test { ValueType::Truth } else { ValueType::Text }
    }
}

/// The root of a select and the path from it, `tls.version` after `request`; `None` for a select of a value.
fn way(select: &SelectExpr) -> Option<(&str, Cow<'_, str>)> {
    let field = select.field.as_str();
    match &select.operand.expr {
        Expr::Ident(root) => Some((root, Cow::Borrowed(field))),
        Expr::Select(inner) => {
            let (root, path) = way(inner)?;
            let branch = root == "request" && BRANCHES.contains(&&*path) && !inner.test;
            branch.then(|| (root, Cow::Owned(format!("{path}.{field}"))))
        }
        _ => None,
    }
}
