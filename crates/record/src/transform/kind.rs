//! Types of CEL, as far as they can be told before a row is there.

use super::TransformError;
use super::functions::{FUNCTIONS, Function};
use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use wal::types::{Kind as Of, Type, oid};

/// What a value is to an expression.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Bool,
    Int,
    Double,
    Text,
    Null,
    /// Not known before it is evaluated.
    Any,
}

impl Kind {
    /// How values of a column are given to expressions. What has no exact type there is the server's text.
    pub(super) fn of(type_: &Type) -> Self {
        match (&type_.kind, type_.oid) {
            (Of::Domain { base, .. }, _) => Self::of(base),
            (Of::Base, oid::BOOL) => Self::Bool,
            (Of::Base, oid::INT2 | oid::INT4 | oid::INT8 | oid::OID | oid::XID | oid::CID) => {
                Self::Int
            }
            (Of::Base, oid::FLOAT4 | oid::FLOAT8) => Self::Double,
            _ => Self::Text,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::Text => "string",
            Self::Null => "null",
            Self::Any => "any value",
        }
    }

    /// Whether a value of this kind may be one of the other.
    fn may_be(self, other: Self) -> bool {
        self == other || self == Self::Any || other == Self::Any
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double | Self::Any)
    }

    fn joined(self, other: Self) -> Self {
        if self == other { self } else { Self::Any }
    }
}

/// The kind of an expression whose names were bound; `column`: of a bound name.
pub(super) fn infer(
    expression: &IdedExpr,
    column: &dyn Fn(&str) -> Kind,
) -> Result<Kind, TransformError> {
    match &expression.expr {
        Expr::Literal(literal) => Ok(match literal {
            LiteralValue::Boolean(_) => Kind::Bool,
            LiteralValue::Int(_) => Kind::Int,
            LiteralValue::Double(_) => Kind::Double,
            LiteralValue::String(_) => Kind::Text,
            LiteralValue::Null => Kind::Null,
            LiteralValue::Bytes(_) | LiteralValue::UInt(_) => {
                return Err(TransformError::new("bytes and unsigned constants are not taken"));
            }
        }),
        Expr::Ident(name) => Ok(column(name)),
        Expr::Call(call) => of_call(call, column),
        Expr::List(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_)
        | Expr::Comprehension(_)
        | Expr::Unspecified => Err(TransformError::new(
            "a list stands only behind `in` and around steps, `{…}` only where columns are set",
        )),
    }
}

fn of_call(call: &CallExpr, column: &dyn Fn(&str) -> Kind) -> Result<Kind, TransformError> {
    let name = call.func_name.as_str();
    if name == operators::IN {
        return of_in(call, column);
    }
    let target = call.target.as_deref().map(|it| infer(it, column)).transpose()?;
    let args = call.args.iter().map(|it| infer(it, column)).collect::<Result<Vec<_>, _>>()?;
    if let (None, Some(kind)) = (target, of_operator(name, &args)?) {
        return Ok(kind);
    }
    let called: Vec<&Function> = FUNCTIONS.iter().filter(|it| it.name == name).collect();
    if called.is_empty() {
        return Err(unknown(name));
    }
    let fits = |it: &&&Function| {
        let takes = it.args.iter().zip(&args).all(|(want, is)| is.may_be(*want));
        let target_fits = match (it.target, target) {
            (Some(want), Some(is)) => is.may_be(want),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        takes && target_fits && it.args.len() == args.len()
    };
    match called.iter().find(fits) {
        Some(function) => check_pattern(call).map(|()| function.result),
        None => {
            let of = target.map_or(String::new(), |it| format!("{}.", it.word()));
            let given: Vec<&str> = args.iter().map(|it| it.word()).collect();
            let given = given.join(", ");
            Err(TransformError::new(format!("`{of}{name}({given})` does not exist")))
        }
    }
}

/// Whether it is a function of transforms, or an operator.
pub(super) fn is_known(name: &str) -> bool {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    !is_word || FUNCTIONS.iter().any(|it| it.name == name)
}

pub(super) fn unknown(name: &str) -> TransformError {
    let mut known: Vec<&str> = FUNCTIONS.iter().map(|it| it.name).collect();
    known.dedup();
    let known = known.join(", ");
    TransformError::new(format!("`{name}` is no function of transforms (they have: {known})"))
}

/// Patterns are constants, so that each is read once.
fn check_pattern(call: &CallExpr) -> Result<(), TransformError> {
    if call.func_name != "matches" {
        return Ok(());
    }
    match call.args.first().map(|it| &it.expr) {
        Some(Expr::Literal(LiteralValue::String(pattern))) => {
            let read = super::functions::pattern(pattern.inner());
            read.map(drop).map_err(|error| TransformError::new(format!("`matches`: {error}")))
        }
        _ => Err(TransformError::new("`matches` takes its pattern as a constant text")),
    }
}

/// `x in [constants]`.
fn of_in(call: &CallExpr, column: &dyn Fn(&str) -> Kind) -> Result<Kind, TransformError> {
    let refused = || TransformError::new("`in` takes a list of constants, e.g. `in ['a', 'b']`");
    let [value, list] = call.args.as_slice() else { return Err(refused()) };
    let Expr::List(list) = &list.expr else { return Err(refused()) };
    let kind = infer(value, column)?;
    for element in &list.elements {
        if !matches!(element.expr, Expr::Literal(_)) {
            return Err(refused());
        }
        compared("in", kind, infer(element, column)?)?;
    }
    Ok(Kind::Bool)
}

/// The result of an operator; `None`: it is none.
fn of_operator(name: &str, args: &[Kind]) -> Result<Option<Kind>, TransformError> {
    let need = |kind: Kind, is: Kind, what: &str| match is.may_be(kind) {
        true => Ok(()),
        false => {
            let text = format!("{what} asks for a {}, not for a {}", kind.word(), is.word());
            Err(TransformError::new(text))
        }
    };
    Ok(Some(match (name, args) {
        (operators::CONDITIONAL, &[condition, yes, no]) => {
            need(Kind::Bool, condition, "`? :`")?;
            yes.joined(no)
        }
        (operators::LOGICAL_AND | operators::LOGICAL_OR, &[left, right]) => {
            need(Kind::Bool, left, "`&&` or `||`")?;
            need(Kind::Bool, right, "`&&` or `||`")?;
            Kind::Bool
        }
        (operators::LOGICAL_NOT, &[value]) => {
            need(Kind::Bool, value, "`!`")?;
            Kind::Bool
        }
        (operators::NEGATE, &[value]) if value.is_number() => value,
        (operators::EQUALS | operators::NOT_EQUALS, &[left, right]) => {
            compared("==", left, right)?;
            Kind::Bool
        }
        (
            operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS,
            &[left, right],
        ) => {
            if left == Kind::Null || right == Kind::Null {
                return Err(TransformError::new("null is neither less nor greater than anything"));
            }
            compared("<", left, right)?;
            Kind::Bool
        }
        (operators::ADD, &[left, right]) if left.may_be(right) && left != Kind::Bool => {
            if left == Kind::Any { right } else { left }
        }
        (
            operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO,
            &[left, right],
        ) if left.is_number() && right.is_number() && left.may_be(right) => {
            if left == Kind::Any {
                right
            } else {
                left
            }
        }
        (
            operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO,
            &[left, right],
        ) => {
            let text = format!(
                "an operator has a {} and a {} beside it; convert one with int(), double() or string()",
                left.word(),
                right.word()
            );
            return Err(TransformError::new(text));
        }
        _ => return Ok(None),
    }))
}

fn compared(operator: &str, left: Kind, right: Kind) -> Result<(), TransformError> {
    let are_comparable = left.may_be(right)
        || left.is_number() && right.is_number()
        || left == Kind::Null
        || right == Kind::Null;
    if are_comparable {
        return Ok(());
    }
    let text = format!(
        "`{operator}` compares a {} and a {}; convert one with int(), double() or string() (values of \
         numeric, date, uuid and other types are given as strings)",
        left.word(),
        right.word()
    );
    Err(TransformError::new(text))
}
