//! What expressions may call: CEL's standard functions of scalars, and those of its extension for strings that
//! stay within bounds. Anything else is refused when the transform is read.

use super::kind::Kind;
use super::{REPLACED_BYTES_MAX, kind};
use cel::common::types::{CelBool, CelInt, CelString};
use cel::{Env, ExecutionError};
use regex::Regex;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// A function, as types see it.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    /// What it is called on.
    pub(super) target: Option<Kind>,
    pub(super) args: &'static [Kind],
    pub(super) result: Kind,
}

const fn on_text(name: &'static str, args: &'static [Kind], result: Kind) -> Function {
    Function { name, target: Some(Kind::Text), args, result }
}

const fn of(name: &'static str, args: &'static [Kind], result: Kind) -> Function {
    Function { name, target: None, args, result }
}

use kind::Kind::{Any, Bool, Double, Int, Text};

pub(super) const FUNCTIONS: [Function; 18] = [
    of("bool", &[Any], Bool),
    of("double", &[Any], Double),
    of("int", &[Any], Int),
    of("string", &[Any], Text),
    of("size", &[Text], Int),
    on_text("size", &[], Int),
    on_text("contains", &[Text], Bool),
    on_text("startsWith", &[Text], Bool),
    on_text("endsWith", &[Text], Bool),
    on_text("matches", &[Text], Bool),
    on_text("indexOf", &[Text], Int),
    on_text("lowerAscii", &[], Text),
    on_text("upperAscii", &[], Text),
    on_text("trim", &[], Text),
    on_text("reverse", &[], Text),
    on_text("substring", &[Int], Text),
    on_text("substring", &[Int, Int], Text),
    on_text("replace", &[Text, Text], Text),
];

/// What all transforms are parsed and evaluated in. It has no macros.
pub(super) fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
        let mut env = Env::default().with_optional_support(false).with_stdlib();
        let added = [
            cel::add_member_overload!(env, fn matches: (CelString, CelString) -> Result<CelBool>),
            cel::add_member_overload!(env, fn index_of: (CelString, CelString) -> CelInt),
            cel::add_member_overload!(env, fn lower_ascii: (CelString) -> CelString),
            cel::add_member_overload!(env, fn upper_ascii: (CelString) -> CelString),
            cel::add_member_overload!(env, fn trim: (CelString) -> CelString),
            cel::add_member_overload!(env, fn reverse: (CelString) -> CelString),
            cel::add_member_overload!(env, fn substring: (CelString, CelInt) -> Result<CelString>),
            cel::add_member_overload!(
                env,
                fn substring_range: (CelString, CelInt, CelInt) -> Result<CelString>,
                name = "substring", id = "string_substring_int_int"
            ),
            cel::add_member_overload!(
                env, fn replace: (CelString, CelString, CelString) -> Result<CelString>
            ),
        ];
        debug_assert!(added.iter().all(Result::is_ok), "declared twice: {added:?}");
        Arc::new(env)
    });
    &ENVIRONMENT
}

/// Programs of patterns that take more are refused.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// So many patterns a thread remembers.
const PATTERNS_MAX: usize = 64;

/// Reads a pattern of the `regex` crate, whose time is linear in the text.
pub(super) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build()
}

thread_local! {
    static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::default();
}

fn matches(text: &CelString<'_>, by: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    PATTERNS.with_borrow_mut(|known| {
        if !known.contains_key(by.inner()) {
            if PATTERNS_MAX <= known.len() {
                known.clear();
            }
            let read = pattern(by.inner());
            let read = read.map_err(|_| ExecutionError::function_error("matches", "no pattern"))?;
            known.insert(by.inner().to_owned(), read);
        }
        let is_match = known.get(by.inner()).is_some_and(|it| it.is_match(text.inner()));
        Ok(CelBool::from(is_match))
    })
}

fn index_of(text: &CelString<'_>, of: &CelString<'_>) -> CelInt {
    let found = text.inner().find(of.inner());
    let characters = found.map(|at| text.inner()[..at].chars().count());
    CelInt::from(characters.map_or(-1, |it| i64::try_from(it).unwrap_or(i64::MAX)))
}

fn lower_ascii(text: &CelString<'_>) -> CelString<'static> {
    CelString::from(text.inner().to_ascii_lowercase())
}

fn upper_ascii(text: &CelString<'_>) -> CelString<'static> {
    CelString::from(text.inner().to_ascii_uppercase())
}

fn trim(text: &CelString<'_>) -> CelString<'static> {
    CelString::from(text.inner().trim().to_owned())
}

fn reverse(text: &CelString<'_>) -> CelString<'static> {
    CelString::from(text.inner().chars().rev().collect::<String>())
}

fn substring(text: &CelString<'_>, from: &CelInt) -> Result<CelString<'static>, ExecutionError> {
    part(text.inner(), *from.inner(), None)
}

fn substring_range(
    text: &CelString<'_>,
    from: &CelInt,
    to: &CelInt,
) -> Result<CelString<'static>, ExecutionError> {
    part(text.inner(), *from.inner(), Some(*to.inner()))
}

/// By characters, as CEL counts.
fn part(text: &str, from: i64, to: Option<i64>) -> Result<CelString<'static>, ExecutionError> {
    let outside = || ExecutionError::function_error("substring", "outside of the text");
    let count = text.chars().count();
    let to = to.map_or(Ok(count), usize::try_from).map_err(|_| outside())?;
    let from = usize::try_from(from).map_err(|_| outside())?;
    if to < from || count < to {
        return Err(outside());
    }
    Ok(CelString::from(text.chars().skip(from).take(to - from).collect::<String>()))
}

fn replace(
    text: &CelString<'_>,
    of: &CelString<'_>,
    by: &CelString<'_>,
) -> Result<CelString<'static>, ExecutionError> {
    let (text, of, by) = (text.inner(), of.inner(), by.inner());
    let grows = by.len().saturating_sub(of.len());
    let found = if grows == 0 { 0 } else { text.matches(of).count() };
    let grown = found.saturating_mul(grows);
    if REPLACED_BYTES_MAX < grown {
        return Err(ExecutionError::function_error("replace", "the result would be too long"));
    }
    Ok(CelString::from(text.replace(of, by)))
}
