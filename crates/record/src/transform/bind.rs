//! A parsed transform → what is done with the rows of one table version.

use super::kind::{Kind, infer, is_known, unknown};
use super::{Action, Given, NODES_MAX, Transform, TransformError};
use cel::IdedExpr;
use cel::common::ast::{CallExpr, EntryExpr, Expr, ListExpr, LiteralValue, operators};
use std::sync::Arc;
use wal::table::ReplicaIdentity;
use wal::types::Type;
use wal::{Column, Table};

/// A column that records show.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) name: Box<str>,
    pub(super) kind: Kind,
    pub(super) type_: Arc<Type>,
    pub(super) type_modifier: i32,
    pub(super) not_null: bool,
    /// Old rows that are limited to the replica identity have it.
    is_in_identity: bool,
    /// Part of message key or partition key.
    is_key: bool,
}

/// What an expression reads beside columns, all of them texts.
pub(super) const VARIABLES: [&str; 5] = ["op", "schema", "table", "commit_time", "lsn"];

/// Rows that an expression may ask, and the letter that a bound name begins with.
const IMAGES: [(&str, char); 3] = [("row", 'r'), ("before", 'b'), ("after", 'a')];

/// What stands where an action is expected.
enum Shape<'a> {
    Keep,
    Drop,
    Each(&'a [IdedExpr]),
    If(&'a IdedExpr, &'a IdedExpr, &'a IdedExpr),
    Set(Vec<(&'a str, &'a IdedExpr)>),
}

fn shape<'a>(expression: &'a IdedExpr) -> Result<Shape<'a>, TransformError> {
    let refused = || {
        let text = "it must come to `keep`, `drop`, `{'column': value}` or a list of these, with \
                    `condition ? … : …` to choose";
        Err(TransformError::new(text))
    };
    match &expression.expr {
        Expr::Ident(name) if name == "keep" => Ok(Shape::Keep),
        Expr::Ident(name) if name == "drop" => Ok(Shape::Drop),
        Expr::List(list) => Ok(Shape::Each(&list.elements)),
        Expr::Call(CallExpr { func_name, args, .. }) if func_name == operators::CONDITIONAL => {
            match args.as_slice() {
                [condition, yes, no] => Ok(Shape::If(condition, yes, no)),
                _ => refused(),
            }
        }
        Expr::Map(map) => {
            let pair = |entry: &'a cel::common::ast::IdedEntryExpr| {
                let EntryExpr::MapEntry(entry) = &entry.expr else {
                    return Err(TransformError::new("no such form"));
                };
                let Expr::Literal(LiteralValue::String(name)) = &entry.key.expr else {
                    let cause = "columns that are set are named by constant texts";
                    return Err(TransformError::new(cause));
                };
                Ok((name.inner(), &entry.value))
            };
            Ok(Shape::Set(map.entries.iter().map(pair).collect::<Result<_, _>>()?))
        }
        Expr::Call(_)
        | Expr::Ident(_)
        | Expr::Literal(_)
        | Expr::Select(_)
        | Expr::Struct(_)
        | Expr::Comprehension(_)
        | Expr::Unspecified => refused(),
    }
}

/// Looks at what needs no table.
pub(super) fn check_form(expression: &IdedExpr) -> Result<(), TransformError> {
    let nodes = nodes(expression);
    if NODES_MAX < nodes {
        let text = format!(
            "it has {nodes} operators, names and constants, and at most {NODES_MAX} are evaluated"
        );
        return Err(TransformError::new(text));
    }
    check_actions(expression)
}

fn check_actions(expression: &IdedExpr) -> Result<(), TransformError> {
    match shape(expression)? {
        Shape::Keep | Shape::Drop | Shape::Set(_) => Ok(()),
        Shape::Each(steps) => steps.iter().try_for_each(check_actions),
        Shape::If(_, yes, no) => check_actions(yes).and_then(|()| check_actions(no)),
    }
}

fn nodes(expression: &IdedExpr) -> usize {
    let all = |list: &[IdedExpr]| list.iter().map(nodes).sum::<usize>();
    1 + match &expression.expr {
        Expr::Call(call) => all(&call.args) + call.target.as_deref().map_or(0, nodes),
        Expr::List(list) => all(&list.elements),
        Expr::Select(select) => nodes(&select.operand),
        Expr::Map(map) => {
            let of = |entry: &EntryExpr| match entry {
                EntryExpr::MapEntry(entry) => nodes(&entry.key) + nodes(&entry.value),
                EntryExpr::StructField(field) => 1 + nodes(&field.value),
            };
            map.entries.iter().map(|entry| of(&entry.expr)).sum()
        }
        // Refused where they stand.
        Expr::Comprehension(_) | Expr::Struct(_) => NODES_MAX,
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => 0,
    }
}

pub(super) fn may_drop(expression: &IdedExpr) -> bool {
    match shape(expression) {
        Ok(Shape::Drop) => true,
        Ok(Shape::Each(steps)) => steps.iter().any(may_drop),
        Ok(Shape::If(_, yes, no)) => may_drop(yes) || may_drop(no),
        Ok(Shape::Keep | Shape::Set(_)) | Err(_) => false,
    }
}

pub(super) fn bind(expression: &IdedExpr, given: Given<'_>) -> Result<Transform, TransformError> {
    let view = given.projection.map_or(given.table, |it| &it.view);
    let columns = view.columns.iter().enumerate();
    let columns: Vec<Shown> = columns.map(|(index, it)| shown(index, it, given)).collect();
    let mut binder = Binder { columns: &columns, is_limited: given.is_limited, set: Vec::new() };
    let action = binder.action(expression)?;
    Ok(Transform {
        action,
        columns: columns.into(),
        schema: view.schema.clone(),
        table: view.name.clone(),
    })
}

fn shown(index: usize, column: &Column, given: Given<'_>) -> Shown {
    let sent = given.projection.map_or(Some(index), |it| it.sent(index));
    let of_table = sent.and_then(|index| given.table.columns.get(index));
    Shown {
        name: column.name.clone(),
        kind: Kind::of(&column.type_),
        type_: Arc::clone(&column.type_),
        type_modifier: column.type_modifier,
        not_null: column.not_null,
        // What is added is there in every row.
        is_in_identity: is_full(given.table) || of_table.is_none_or(|it| it.in_identity),
        is_key: sent.is_some_and(|it| given.keys.contains(&it)),
    }
}

fn is_full(table: &Table) -> bool {
    table.identity == ReplicaIdentity::Full
}

struct Binder<'a> {
    columns: &'a [Shown],
    is_limited: bool,
    /// Columns that steps so far may have set.
    set: Vec<usize>,
}

impl Binder<'_> {
    fn action(&mut self, expression: &IdedExpr) -> Result<Action, TransformError> {
        Ok(match shape(expression)? {
            Shape::Keep => Action::Keep,
            Shape::Drop => Action::Drop,
            Shape::Each(steps) => {
                let steps = steps.iter().map(|step| self.action(step));
                Action::Each(steps.collect::<Result<_, _>>()?)
            }
            Shape::If(condition, yes, no) => {
                let decides = may_drop(yes) || may_drop(no);
                let condition = self.scalar(condition, decides && self.is_limited)?;
                let kind = self.kind(&condition)?;
                if kind != Kind::Bool && kind != Kind::Any {
                    let text = format!("a condition is a bool, not a {}", kind.word());
                    return Err(TransformError::new(text));
                }
                let (yes, no) = (self.action(yes)?, self.action(no)?);
                Action::If(condition, yes.into(), no.into())
            }
            Shape::Set(pairs) => {
                let mut set = Vec::with_capacity(pairs.len());
                for (name, value) in pairs {
                    let (index, value) = self.assignment(name, value)?;
                    if set.iter().any(|(other, _)| *other == index) {
                        return Err(TransformError::new(format!(
                            "`{name}` is set twice in one step"
                        )));
                    }
                    set.push((index, value));
                }
                self.set.extend(set.iter().map(|(index, _)| *index));
                Action::Set(set)
            }
        })
    }

    fn assignment(
        &self,
        name: &str,
        value: &IdedExpr,
    ) -> Result<(usize, IdedExpr), TransformError> {
        let index = self.find(name)?;
        let column = &self.columns[index];
        if column.is_key {
            let text = format!(
                "`{name}` is part of the message key or of the partition key, by which rows find their place; \
                 set another column (`columns.add` makes one)"
            );
            return Err(TransformError::new(text));
        }
        let value = self.scalar(value, false)?;
        let kind = self.kind(&value)?;
        if column.takes(kind) {
            return Ok((index, value));
        }
        let type_ = &column.type_.name;
        let text = match kind {
            Kind::Null => format!("`{name}` is not null"),
            Kind::Bool | Kind::Int | Kind::Double | Kind::Text | Kind::Any => format!(
                "`{name}` is of type {type_} and takes no {}; convert it with int(), double() or string()",
                kind.word()
            ),
        };
        Err(TransformError::new(text))
    }

    fn find(&self, name: &str) -> Result<usize, TransformError> {
        self.columns.iter().position(|column| *column.name == *name).ok_or_else(|| {
            let known: Vec<&str> = self.columns.iter().map(|column| &*column.name).collect();
            let known = known.join(", ");
            TransformError::new(format!("records have no column `{name}` (they have: {known})"))
        })
    }

    fn kind(&self, bound: &IdedExpr) -> Result<Kind, TransformError> {
        infer(bound, &|name| match column_of(name) {
            Some((_, index)) => self.columns.get(index).map_or(Kind::Any, |column| column.kind),
            None => Kind::Text,
        })
    }

    /// The expression with every column found. `decides`: it must be known of old rows as well.
    fn scalar(&self, expression: &IdedExpr, decides: bool) -> Result<IdedExpr, TransformError> {
        let all = |list: &[IdedExpr]| {
            list.iter().map(|it| self.scalar(it, decides)).collect::<Result<Vec<_>, _>>()
        };
        let expr = match &expression.expr {
            Expr::Select(select) if !select.test => {
                let Expr::Ident(image) = &select.operand.expr else {
                    return Err(TransformError::new("columns are written `row.name`"));
                };
                self.column(image, &select.field, decides)?
            }
            Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
                [
                    IdedExpr { expr: Expr::Ident(image), .. },
                    IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. },
                ] => self.column(image, name.inner(), decides)?,
                _ => {
                    let text = "`[…]` takes the name of a column, as in `row['name']`";
                    return Err(TransformError::new(text));
                }
            },
            Expr::Call(call) if !is_known(&call.func_name) => return Err(unknown(&call.func_name)),
            Expr::Call(call) => Expr::Call(CallExpr {
                func_name: call.func_name.clone(),
                target: match &call.target {
                    Some(target) => Some(Box::new(self.scalar(target, decides)?)),
                    None => None,
                },
                args: all(&call.args)?,
            }),
            Expr::List(list) => Expr::List(ListExpr::new(all(&list.elements)?)),
            Expr::Ident(name) if VARIABLES.contains(&name.as_str()) => Expr::Ident(name.clone()),
            Expr::Ident(name) => {
                let text = format!(
                    "`{name}` is unknown; columns are written `row.{name}` or `row['{name}']`, and there are {}",
                    VARIABLES.join(", ")
                );
                return Err(TransformError::new(text));
            }
            Expr::Literal(literal) => Expr::Literal(literal.clone()),
            Expr::Select(_)
            | Expr::Map(_)
            | Expr::Struct(_)
            | Expr::Comprehension(_)
            | Expr::Unspecified => {
                return Err(TransformError::new(
                    "a value is no map, no message and no test for one",
                ));
            }
        };
        Ok(IdedExpr { id: expression.id, expr })
    }

    fn column(&self, image: &str, name: &str, decides: bool) -> Result<Expr, TransformError> {
        let Some((_, letter)) = IMAGES.iter().find(|(known, _)| *known == image) else {
            let text = format!("`{image}.{name}`: columns are of `row`, `before` or `after`");
            return Err(TransformError::new(text));
        };
        let index = self.find(name)?;
        let column = &self.columns[index];
        if decides && (!column.is_in_identity || self.set.contains(&index)) {
            let text = format!(
                "`{name}` decides whether rows are dropped and is not part of the replica identity, so updates \
                 and deletes could not be judged; run ALTER TABLE … REPLICA IDENTITY FULL, or keep updates \
                 and deletes out of `operations`"
            );
            return Err(TransformError::new(text));
        }
        Ok(Expr::Ident(format!("{letter}{index}")))
    }
}

impl Shown {
    /// Whether values of a kind can be written to the column, as far as that is known.
    fn takes(&self, kind: Kind) -> bool {
        match kind {
            Kind::Any => true,
            Kind::Null => !self.not_null,
            Kind::Int => matches!(self.kind, Kind::Int | Kind::Double) || self.is_numeric(),
            Kind::Double => self.kind == Kind::Double || self.is_numeric(),
            Kind::Bool => self.kind == Kind::Bool,
            Kind::Text => self.kind == Kind::Text,
        }
    }

    /// Its values are texts to expressions, of numbers of any length.
    pub(super) fn is_numeric(&self) -> bool {
        let numeric = wal::types::oid::NUMERIC;
        if let wal::types::Kind::Domain { base, .. } = &self.type_.kind {
            base.oid == numeric
        } else {
            self.type_.oid == numeric
        }
    }
}

/// The image and column of a bound name; `None`: it is a variable.
pub(super) fn column_of(name: &str) -> Option<(char, usize)> {
    let letter = name.chars().next()?;
    Some((letter, name.get(1..)?.parse().ok()?))
}
